// Runs of the device, each measured for the latency model. Knows sequences as what a run is made of, no plan.

import type { Logits, ModelRunner } from "../kernels/model-runner.ts";
import type { HeldAdapters } from "./held-adapters.ts";
import type { Sequence } from "./sequence.ts";
import { StepLatency } from "./step-latency.ts";

export class MeasuredRuns {
  readonly latency = new StepLatency();
  readonly #runner: ModelRunner;
  readonly #adapters: HeldAdapters;

  constructor(runner: ModelRunner, adapters: HeldAdapters) {
    this.#runner = runner;
    this.#adapters = adapters;
  }

  /** One token for each sequence; returns each one's logits [vocab]. */
  async decode(sequences: readonly Sequence[]): Promise<Float32Array[]> {
    const entries = sequences.map(({ request, nextTokenId }) => ({
      sequence: request.id,
      tokenId: nextTokenId,
    }));
    const work = {
      rows: sequences.length,
      pastTokens: sequences.reduce((sum, { contextTokens }) => sum + contextTokens, 0),
      adapterBytes: this.#adapters.bytesOfAll(sequences),
    };
    const startMs = performance.now();
    const logits = await this.#runner.decode(entries);
    this.latency.decodeTook(work, performance.now() - startMs);
    return rowsOf(logits);
  }

  /** The sequence's next chunk; returns how long it was and the logits that the sequence wanted of it. */
  async prefill(sequence: Sequence): Promise<{ tokens: number; logits: Float32Array[] }> {
    const { id, promptTokenIds } = sequence.request;
    const chunk = sequence.nextChunk();
    const work = {
      tokens: chunk.tokenIds.length,
      pastTokens: sequence.contextTokens,
      adapterBytes: this.#adapters.bytesOfAll([sequence]),
    };
    const startMs = performance.now();
    const logits = await this.#runner.prefill({
      sequence: id,
      promptLength: promptTokenIds.length,
      ...chunk,
    });
    this.latency.chunkTook(work, performance.now() - startMs);
    return { tokens: work.tokens, logits: rowsOf(logits) };
  }
}

function rowsOf(logits: Logits): Float32Array[] {
  return Array.from({ length: logits.count }, (_, row) =>
    logits.data.subarray(row * logits.vocabSize, (row + 1) * logits.vocabSize),
  );
}
