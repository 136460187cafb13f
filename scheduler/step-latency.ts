// What a decode step and a prefill chunk take, from what they work on. The features are what the time is made of:
// a fixed part, rows or tokens, keys and values read, adapter weights read.

import { LatencyModel } from "./latency-model.ts";
import type { LatencyErrors } from "./protocol.ts";

export type DecodeWork = {
  readonly rows: number;
  readonly pastTokens: number; // of all rows together
  readonly adapterBytes: number; // of the distinct versions
};

export type ChunkWork = {
  readonly tokens: number;
  readonly pastTokens: number;
  readonly adapterBytes: number;
};

/** Predictions in milliseconds; null where too few runs were seen. Pure data for a plan. */
export type LatencyEstimate = {
  readonly decodeMs: (work: DecodeWork) => number | null;
  readonly chunkMs: (work: ChunkWork) => number | null;
};

const kilo = 1e3;
const mega = 1e6;

const decodeFeatures = ({ rows, pastTokens, adapterBytes }: DecodeWork) => [
  1,
  rows,
  pastTokens / kilo,
  adapterBytes / mega,
];

/** Attention is a product of tokens and past; an adapter costs its bytes once and its sums per token. */
const chunkFeatures = ({ tokens, pastTokens, adapterBytes }: ChunkWork) => [
  1,
  tokens,
  (tokens * (pastTokens + tokens / 2)) / kilo,
  adapterBytes / mega,
  (tokens * adapterBytes) / mega,
];

const anyDecode = decodeFeatures({ rows: 0, pastTokens: 0, adapterBytes: 0 });
const anyChunk = chunkFeatures({ tokens: 0, pastTokens: 0, adapterBytes: 0 });

export class StepLatency implements LatencyEstimate {
  readonly #decode = new LatencyModel(anyDecode.length);
  readonly #chunk = new LatencyModel(anyChunk.length);

  decodeMs(work: DecodeWork): number | null {
    return this.#decode.predict(decodeFeatures(work));
  }

  chunkMs(work: ChunkWork): number | null {
    return this.#chunk.predict(chunkFeatures(work));
  }

  decodeTook(work: DecodeWork, ms: number): void {
    this.#decode.observe(decodeFeatures(work), ms);
  }

  chunkTook(work: ChunkWork, ms: number): void {
    this.#chunk.observe(chunkFeatures(work), ms);
  }

  get errors(): LatencyErrors {
    return { decode: this.#decode.error, prefill: this.#chunk.error };
  }
}
