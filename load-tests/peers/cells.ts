// What every contestant is measured on: so many clients in a closed loop, each with the base, one adapter for all or
// one of its own.

import { fixedLength } from "../load/lengths.ts";
import type { Stream } from "../load/workload.ts";

export const adapterUses = ["none", "one", "each"] as const;
export type AdapterUse = (typeof adapterUses)[number];

/** What of a run is compared: all of its tokens per second, or one stream's between tokens, or of its prompt. */
export type Figure = "throughput" | "decode" | "prefill";

export type Cell = {
  readonly name: string;
  readonly figure: Figure;
  readonly clients: number;
  readonly adapters: AdapterUse;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly requestsPerClient: number;
};

export const mostClients = 16;

export function cellsFor(clientCounts: readonly number[]): Cell[] {
  const decoding = adapterUses.flatMap((adapters) =>
    // One client with an adapter of its own is one with the adapter of all.
    clientCounts
      .filter((clients) => clients > 1 || adapters !== "each")
      .map((clients): Cell => {
        const name = `${clients} ${clients === 1 ? "client" : "clients"}, ${described[adapters]}`;
        const figure = clients === 1 ? "decode" : "throughput";
        const requestsPerClient = clients === 1 ? 3 : 1;
        return { name, figure, clients, adapters, promptTokens: 64, outputTokens: 64, requestsPerClient };
      }),
  );
  return [
    ...decoding,
    {
      name: "prefill of 512 tokens",
      figure: "prefill",
      clients: 1,
      adapters: "none",
      promptTokens: 512,
      outputTokens: 1,
      requestsPerClient: 4,
    },
  ];
}

/** Not where it has no adapters and the cell wants some. */
export function isFor({ adapters }: Cell, served: { readonly adapters: readonly string[] }): boolean {
  return adapters === "none" || served.adapters.length > 0;
}

/**
 * Before anything is measured everybody does what each cell asks for, briefly: so many rows and adapters at once touch
 * memory for the first time, and whoever keeps adapters anywhere has put all of the cell's there.
 */
export function warmUpOf(cell: Cell): Cell {
  return { ...cell, outputTokens: Math.min(cell.outputTokens, 8), requestsPerClient: 1 };
}

const described: Readonly<Record<AdapterUse, string>> = {
  none: "no adapter",
  one: "one adapter",
  each: "an adapter each",
};

/** @param models the base's name, and those of at least as many adapters as there are clients */
export function streamOf(
  cell: Cell,
  models: { readonly base: string; readonly adapters: readonly string[] },
): Stream {
  const named = {
    none: [models.base],
    one: models.adapters.slice(0, 1),
    each: models.adapters.slice(0, cell.clients),
  };
  return {
    tenant: "peers",
    key: null,
    arrivals: { kind: "closed", clients: cell.clients },
    models: named[cell.adapters],
    popularity: { kind: "distinct" },
    prompt: fixedLength(cell.promptTokens),
    output: fixedLength(cell.outputTokens),
    cancelShare: 0,
    requestsPerClient: cell.requestsPerClient,
  };
}
