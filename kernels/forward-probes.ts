// The contract of probes: what tokens are worth under a few adapters side by side, by the graph that serves. Nothing of
// it stays: no row is opened, no adapter gets a name, and nobody's keys and values are touched.

import type { DecodedAdapter } from "./adapter.ts";
import type { TrainingSequence } from "./training/token-layout.ts";
import type { TrainingUnit } from "./training/training-pass.ts";

export type ProbeOptions = {
  /** Of low-rank modules, each with all sequences in a row of its own; one without modules is the base. */
  readonly adapters: readonly DecodedAdapter[];
  readonly unitTokens: number; // of a unit, over all rows
};

/** Of the scored tokens. */
export type TokenScores = {
  readonly logprobs: Float64Array; // [scored]
  readonly hits: Uint8Array; // [scored], 1 where no other token is likelier
};

export interface ForwardProbes {
  /** @returns [adapters] */
  scores(
    sequences: readonly TrainingSequence[],
    options: ProbeOptions,
  ): Generator<TrainingUnit, readonly TokenScores[], void>;
}
