// Direct preference optimization with the sigmoid loss (Rafailov et al., arXiv 2305.18290, equation 7). The reference
// is the same base with the adapter off. A token's weight weighs its log-probability.

import type { Objective, ScoredSequence } from "./objective.ts";

/** @param beta how far the adapter may leave the reference: smaller is farther */
export function dpo(beta: number): Objective {
  return {
    needsReference: true,
    wantsHits: false,
    sequencesPerExample: 2,
    evaluate(sequences) {
      const slopes: number[] = [];
      let loss = 0;
      let margins = 0;
      let preferred = 0;
      for (let pair = 0; pair < sequences.length; pair += 2) {
        const chosen = sequences[pair]!;
        const rejected = sequences[pair + 1]!;
        const margin = beta * (gain(chosen) - gain(rejected));
        loss += softplus(-margin);
        margins += margin;
        if (margin > 0) preferred++;
        const slope = -beta / (1 + Math.exp(margin));
        slopes.push(...chosen.weights.map((weight) => slope * weight));
        slopes.push(...rejected.weights.map((weight) => -slope * weight));
      }
      return {
        loss,
        weight: sequences.length / 2,
        slopes: Float64Array.from(slopes),
        metrics: { rewardMargin: margins, preferred },
      };
    },
  };
}

/** By how much the adapter makes a sequence likelier than the reference does. */
function gain({ weights, logprobs, reference }: ScoredSequence): number {
  return weights.reduce((sum, weight, at) => sum + weight * (logprobs[at]! - reference![at]!), 0);
}

/** log(1 + exp(x)) */
function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}
