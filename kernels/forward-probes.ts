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

export interface ForwardProbes {
  /** @returns log-probabilities of the scored tokens, [adapters][scored] */
  logprobs(
    sequences: readonly TrainingSequence[],
    options: ProbeOptions,
  ): Generator<TrainingUnit, readonly Float64Array[], void>;
}
