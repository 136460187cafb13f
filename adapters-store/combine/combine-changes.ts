// Two ways to make one change of several, entry by entry.

import type { WeightedChange } from "./dense-method.ts";

export function weightedSum(changes: readonly WeightedChange[]): Float32Array {
  return combined(changes, (entries) => {
    let sum = 0;
    for (let i = 0; i < entries.length; i++) sum += entries[i]!;
    return sum;
  });
}

/**
 * TIES (arXiv 2306.01708): the sign with the greater total wins, and of the entries with that sign the mean is taken.
 * The vote is by weighted entries, so that an adapter of negative weight votes for what it will do; for equal positive
 * weights this is PEFT's, which votes unweighted.
 */
export function disjointMean(changes: readonly WeightedChange[]): Float32Array {
  return combined(changes, (entries) => {
    let total = 0;
    for (let i = 0; i < entries.length; i++) total += entries[i]!;
    const sign = total < 0 ? -1 : 1;
    let sum = 0;
    let count = 0;
    for (let i = 0; i < entries.length; i++) {
      if (entries[i]! * sign <= 0) continue;
      sum += entries[i]!;
      count++;
    }
    return count === 0 ? 0 : sum / count;
  });
}

function combined(
  changes: readonly WeightedChange[],
  combine: (entries: Float64Array) => number,
): Float32Array {
  const entries = new Float64Array(changes.length);
  const result = new Float32Array(changes[0]?.values.length ?? 0);
  for (let at = 0; at < result.length; at++) {
    for (let i = 0; i < changes.length; i++) entries[i] = changes[i]!.weight * changes[i]!.values[at]!;
    result[at] = combine(entries);
  }
  return result;
}
