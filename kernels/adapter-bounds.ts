// Keeps one tenant's adapter from harming another's row. A batched step multiplies every slot's result with a
// weight, zero for the rows that do not use it; zero times infinity would be NaN in all of them. So no adapter
// may be able to overflow float32, whatever it reads.

import type { DecodedAdapter, LowRankModule } from "./adapter.ts";
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
  const { rank, a, b } = module;
  const inWidth = a.length / rank;
  const outWidth = b.length / rank;
  const reach = new Float64Array(outWidth);
  for (let index = 0; index < rank; index++) {
    let norm = 0;
    for (let i = index * inWidth; i < (index + 1) * inWidth; i++) norm += Math.abs(a[i]!);
    for (let i = 0; i < outWidth; i++) reach[i] = reach[i]! + norm * Math.abs(b[index * outWidth + i]!);
  }
  return reach.reduce((max, value) => Math.max(max, value), 0);
}

/** max over ranks of the 1-norm of a: |x a| <= this * max |x|. */
function rankNorm({ rank, a }: LowRankModule): number {
  const inWidth = a.length / rank;
  let largest = 0;
  for (let index = 0; index < rank; index++) {
    let norm = 0;
    for (let i = index * inWidth; i < (index + 1) * inWidth; i++) norm += Math.abs(a[i]!);
    largest = Math.max(largest, norm);
  }
  return largest;
}

/** @throws AdapterError `adapter_values_too_large` naming the module */
export function assertBounded(adapter: DecodedAdapter): void {
  for (const module of adapter.modules) {
    const norm = rankNorm(module);
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
