// What averaging A and B each on their own would have lost, as federated averaging does (LoRA-FAIR, arXiv 2411.14961,
// corrects for it): mean(B) mean(A) against mean(B A). Merges here average products; this is reported for comparison.

import type { ErrorSums } from "../compress/weight-error.ts";
import { factoredNorm } from "./matrix/factored-svd.ts";
import type { Factors, Numbers } from "./matrix/factors.ts";
import { factorsOf, isFactored } from "./matrix-place.ts";
import { distance } from "./merge-error.ts";
import type { MatrixMerge } from "./merge-method.ts";

/** Null where the factors have no mean: one adapter, other ranks or kinds, or weights that are not all positive. */
export function factorAveragingError({ parts, sum }: MatrixMerge): ErrorSums | null {
  const [wanted] = sum;
  const factors = parts.flatMap(({ weight, modules }) =>
    modules.filter(isFactored).map((module) => ({ weight, ...factorsOf(module) })),
  );
  const [first] = factors;
  if (wanted === undefined || !isFactored(wanted) || first === undefined) return null;
  const isComparable =
    parts.length > 1 &&
    parts.every(({ weight, modules }) => weight > 0 && modules.length === 1) &&
    factors.length === parts.length &&
    factors.every(({ rank }) => rank === first.rank);
  if (!isComparable) return null;
  const total = factors.reduce((sumOfWeights, { weight }) => sumOfWeights + weight, 0);
  const mean = (side: "left" | "right") =>
    weightedMean(factors.map((each) => [each.weight / total, each[side]]));
  const averaged: Factors = {
    rank: first.rank,
    left: mean("left").map((value) => value * total),
    right: mean("right"),
  };
  const exact = factorsOf(wanted);
  return { squaredError: distance(exact, averaged) ** 2, squaredNorm: factoredNorm(exact) ** 2 };
}

function weightedMean(vectors: readonly (readonly [weight: number, values: Numbers])[]): Float64Array {
  const result = new Float64Array(vectors[0]![1].length);
  for (const [weight, values] of vectors) {
    for (let i = 0; i < result.length; i++) result[i]! += weight * values[i]!;
  }
  return result;
}
