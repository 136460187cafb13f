// One contestant on one cell: a closed loop over HTTP, and the figures of it.

import { loadavg } from "node:os";
import { HttpClient } from "../load/http-client.ts";
import { type RequestRecord, timePerOutputTokenMs, timeToFirstTokenMs } from "../load/request-record.ts";
import { runWorkload } from "../load/run-workload.ts";
import { calibrate } from "../load/served-models.ts";
import { type Cell, type Figure, streamOf } from "./cells.ts";
import type { Served } from "./contestant.ts";
import { median } from "./median.ts";

export type Sample = {
  readonly figures: Readonly<Record<Figure, number>>; // tokens/s
  readonly firstTokenMs: number;
  readonly promptTokens: number; // of all requests
  readonly loadAverage: number;
  readonly clientBottleneck: string | null;
};

const limitMs = 200_000; // a cell that takes longer is broken

/** Tokens per word of the generator's prompts; every model is asked once, so that none is loaded while it is measured. */
export async function warmUp({ url, base, adapters, modelFields }: Served): Promise<number> {
  await using client = new HttpClient(url);
  for (const model of [base, ...adapters]) {
    const body = { model, prompt: "water", max_tokens: 2, ...modelFields[model] };
    await client.json({ method: "POST", path: "/v1/completions", key: null, body });
  }
  return await calibrate(client, { base }, { key: null, endpoint: "completions" });
}

export async function measure(
  cell: Cell,
  served: Served,
  { seed, tokensPerWord }: { readonly seed: number; readonly tokensPerWord: number },
): Promise<Sample> {
  const { modelFields, url } = served;
  const { records, client } = await runWorkload(
    {
      url,
      shape: { endpoint: "completions", vllmFields: true, tokensPerWord, modelFields },
      workload: { seed, durationMs: limitMs, streams: [streamOf(cell, served)] },
      workers: 1,
      drainMs: 0,
    },
    () => undefined,
  );
  return sampleOf(records, cell, client.bottleneck);
}

export function sampleOf(
  records: readonly RequestRecord[],
  cell: Cell,
  clientBottleneck: string | null,
): Sample {
  const wrong = records.find(
    ({ outcome, outputTokens }) => outcome !== "finished" || outputTokens !== cell.outputTokens,
  );
  if (wrong !== undefined) {
    throw new Error(`${cell.name}: ${wrong.outcome} with ${wrong.outputTokens} tokens: ${wrong.error}`);
  }
  const sum = (value: (record: RequestRecord) => number) => records.reduce((so, one) => so + value(one), 0);
  const startMs = Math.min(...records.map(({ sentMs }) => sentMs));
  const endMs = Math.max(...records.map(({ endedMs }) => endedMs));
  const promptTokens = sum((record) => record.promptTokens ?? 0);
  const firstTokenMs = median(records.map((record) => timeToFirstTokenMs(record) ?? Number.NaN));
  const tokenMs = median(records.map((record) => timePerOutputTokenMs(record) ?? Number.NaN));
  return {
    figures: {
      throughput: (sum(({ outputTokens }) => outputTokens) * 1000) / (endMs - startMs),
      decode: 1000 / tokenMs,
      prefill: (promptTokens / records.length) * (1000 / firstTokenMs),
    },
    firstTokenMs,
    promptTokens,
    loadAverage: loadavg()[0]!,
    clientBottleneck,
  };
}
