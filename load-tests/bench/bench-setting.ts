// What the benches of kernels/ and the engine run: rows, adapters, prompts. Both sides of a bench get the same.

import { greedySampling } from "../../kernels/sampling/sampler.ts";
import type { GenerationRequest, Quantization } from "../../scheduler/protocol.ts";

export type BenchSetting = {
  readonly model: string;
  readonly cache: string; // of prepared weights
  readonly quantize: Quantization;
  readonly threads: number; // 0 = all cores
  readonly rows: number;
  readonly adapters: number; // row i uses adapter i mod adapters; 0 = base alone
  readonly rank: number;
  readonly past: number; // tokens of a prompt
  readonly steps: number; // decode steps that are measured
};

/** One round of either side. */
export type Round = {
  readonly tokensPerSecond: number;
  readonly msPerStep: number;
  readonly outside: number; // share of the loop's time that the session did not run
};

export function versionsOf({ adapters }: BenchSetting): string[] {
  return Array.from({ length: adapters }, (_, index) => `adapter-${index}`);
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
