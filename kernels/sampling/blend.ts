// Arithmetic on the next-token logits of several models that read the same tokens.

import { argmax } from "./logprobs.ts";

/**
 * Weighted sum, as in proxy tuning (arXiv 2401.08565): base + sum of w (adapter - base) where the base's weight is
 * what the others leave of one. Overwrites and returns the first row.
 * @param rows [vocab] each
 */
export function blendLogits(rows: readonly Float32Array[], weights: readonly number[]): Float32Array {
  const [into, ...others] = rows;
  const first = weights[0]!;
  for (let i = 0; i < into!.length; i++) into![i] = first * into![i]!;
  for (const [index, row] of others.entries()) {
    const weight = weights[index + 1]!;
    for (let i = 0; i < row.length; i++) into![i] = into![i]! + weight * row[i]!;
  }
  return into!;
}

export type Divergence = {
  readonly kl: number; // nats, KL(one || other)
  readonly isSameTop: boolean; // the likeliest token is the same
};

/** Of the distributions of two rows of logits [vocab]. */
export function divergence(one: Float32Array, other: Float32Array): Divergence {
  const [ownTop, otherTop] = [argmax(one), argmax(other)];
  const [ownMax, otherMax] = [one[ownTop]!, other[otherTop]!];
  let ownSum = 0;
  let otherSum = 0;
  let difference = 0; // of the logits, weighted by exp(one)
  for (let i = 0; i < one.length; i++) {
    const own = one[i]! - ownMax;
    const theirs = other[i]! - otherMax;
    const weight = Math.exp(own);
    ownSum += weight;
    otherSum += Math.exp(theirs);
    if (weight > 0) difference += weight * (own - theirs);
  }
  return divergenceOf({ ownSum, otherSum, difference, isSameTop: ownTop === otherTop });
}

/** Sums over the vocabulary, of logits that are relative to the largest. */
export type DivergenceSums = {
  readonly ownSum: number; // of exp(one)
  readonly otherSum: number; // of exp(other)
  readonly difference: number; // of exp(one) (one - other)
  readonly isSameTop: boolean;
};

export function divergenceOf({ ownSum, otherSum, difference, isSameTop }: DivergenceSums): Divergence {
  const kl = difference / ownSum - Math.log(ownSum) + Math.log(otherSum);
  return { kl: Math.max(0, kl), isSameTop }; // rounding may leave it just below zero
}
