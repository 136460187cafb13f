// What the benches of kernels/ and the engine run: rows, adapters, prompts. Both sides of a bench get the same.

import type { AdapterTargets, DecodedAdapter, Projection } from "../../kernels/adapter.ts";
import { randomAdapter } from "../../kernels/random-adapter.ts";
import { greedySampling } from "../../kernels/sampling/sampler.ts";
import type { GenerationRequest, Quantization } from "../../scheduler/protocol.ts";

export type BenchSetting = {
  readonly model: string;
  readonly cache: string; // of prepared weights
  readonly quantize: Quantization;
  readonly threads: number; // 0 = all cores
  readonly plainGraphBytes?: number | undefined; // as the server's option
  readonly rows: number;
  readonly adapters: number; // row i uses adapter i mod adapters; 0 = base alone
  readonly rank: number;
  readonly projections: readonly Projection[]; // that the adapters change
  readonly past: number; // tokens of a prompt
  readonly steps: number; // decode steps that are measured
};

/** One round of either side. */
export type Round = {
  readonly tokensPerSecond: number;
  readonly msPerStep: number;
  readonly outside: number; // share of the loop's time that the session did not run
};

/** The adapters by version. */
export function adaptersOf(setting: BenchSetting, targets: AdapterTargets): Map<string, DecodedAdapter> {
  return new Map(
    Array.from({ length: setting.adapters }, (_, index) => {
      const { modules } = randomAdapter(targets, setting.rank, index);
      const wanted = modules.filter(
        (module) => "projection" in module && setting.projections.includes(module.projection),
      );
      return [`adapter-${index}`, { modules: wanted }];
    }),
  );
}

export function versionOf({ adapters }: BenchSetting, row: number): string | null {
  return adapters === 0 ? null : `adapter-${row % adapters}`;
}

export function promptOf({ past }: BenchSetting, row: number): number[] {
  return Array.from({ length: past }, (_, index) => 10 + ((index * 7 + row * 13) % 200));
}

export function requestOf(setting: BenchSetting, row: number, maxTokens: number): GenerationRequest {
  return {
    id: `${row}`,
    tenant: { id: "bench", weight: 1, rowsAtOnce: null },
    priority: 0,
    timeoutMs: null,
    promptTokenIds: promptOf(setting, row),
    adapterVersion: versionOf(setting, row),
    blend: null,
    sampling: greedySampling,
    maxTokens,
    minTokens: 0,
    stopTokenIds: [],
    ignoreEos: true,
    logprobs: null,
    promptLogprobs: null,
  };
}
