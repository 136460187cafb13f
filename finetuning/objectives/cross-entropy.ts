// Cross-entropy with a weight per token; a masked prompt's tokens are not scored at all.

import { type Objective, sumOf } from "./objective.ts";

export const crossEntropy: Objective = {
  needsReference: false,
  wantsHits: true,
  sequencesPerExample: 1,
  evaluate(sequences) {
    const weights = sequences.flatMap((sequence) => sequence.weights);
    const loss = sumOf(
      sequences.map(({ weights: own, logprobs }) => -sumOf(own.map((weight, at) => weight * logprobs[at]!))),
    );
    return {
      loss,
      weight: sumOf(weights),
      slopes: Float64Array.from(weights, (weight) => -weight),
      metrics: {},
    };
  },
};
