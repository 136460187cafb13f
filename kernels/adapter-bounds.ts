// Keeps one tenant's adapter from harming another's row. A batched step multiplies every slot's result with a
// weight, zero for the rows that do not use it; zero times infinity would be NaN in all of them. So no adapter
// may be able to overflow float32, whatever it reads.

import { type DecodedAdapter, type LowRankModule, modulesOf } from "./adapter.ts";
import { AdapterError } from "./errors.ts";

/**
 * The largest factor from an input's largest entry to an output entry. Inputs of q, k, v, gate and up are
 * normalised, so they stay below about 1e4; gate times up is then at most 1e18 and what `down` makes of it at
 * most 1e23, residuals included: far from 3.4e38. Trained adapters are below 1e3.
 */
export const largestAmplification = 1e5;

/** The largest 1-norm of a rank's a: what comes between the two products must stay finite too. */
export const largestRankNorm = 1e10;

/** max over outputs of sum over ranks of |b| times the 1-norm of the rank's a: |y| <= this * max |x|. */
export function amplification(module: LowRankModule): number {
  const { rank, b } = module;
  const outWidth = b.length / rank;
  const reach = new Float64Array(outWidth);
  for (const [index, norm] of rankNorms(module).entries()) {
    for (let i = 0; i < outWidth; i++) reach[i] = reach[i]! + norm * Math.abs(b[index * outWidth + i]!);
  }
  return reach.reduce((max, value) => Math.max(max, value), 0);
}

/** The 1-norm of each rank's a: |x a| <= this * max |x|. */
function rankNorms({ rank, a }: LowRankModule): Float64Array {
  const inWidth = a.length / rank;
  const norms = new Float64Array(rank);
  for (let index = 0; index < rank; index++) {
    let norm = 0;
    for (let i = index * inWidth; i < (index + 1) * inWidth; i++) norm += Math.abs(a[i]!);
    norms[index] = norm;
  }
  return norms;
}

/** @throws AdapterError `adapter_values_too_large` naming the module */
export function assertBounded(adapter: DecodedAdapter): void {
  for (const module of modulesOf(adapter, "low-rank")) {
    const norm = rankNorms(module).reduce((max, value) => Math.max(max, value), 0);
    if (norm > largestRankNorm) {
      throw new AdapterError(
        "adapter_values_too_large",
        `layer ${module.layer}, ${module.projection}: a row of A sums to ${norm.toExponential(1)}, the limit is ${largestRankNorm.toExponential(0)}; its weights have diverged, train it again with a lower learning rate`,
      );
    }
    const factor = amplification(module);
    if (factor <= largestAmplification) continue;
    throw new AdapterError(
      "adapter_values_too_large",
      `layer ${module.layer}, ${module.projection}: the adapter can enlarge its input ${factor.toExponential(1)} times, the limit is ${largestAmplification.toExponential(0)}; its weights have diverged, train it again with a lower learning rate or scale`,
    );
  }
}
