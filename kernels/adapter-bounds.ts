// Refuses adapters whose weights have diverged: what they make overflows float32, and their every answer would be
// noise. Other rows are safe from them anyway (adapter-graph.ts); this is for whoever uploads one.

import type { AdapterModule, DecodedAdapter } from "./adapter.ts";
import { AdapterError } from "./errors.ts";

/**
 * The largest factor from an input's largest entry to an output entry, and the largest shift. Inputs of q, k, v,
 * gate and up are normalised, so they stay below about 1e4, and with a scale their outputs below 1e12; gate times
 * up is then at most 1e24 and what `down` makes of it at most 1e32: below 3.4e38. Trained adapters are below 1e3.
 */
export const largestAmplification = 1e5;

/** The largest entry of a scale, which multiplies what the other kinds add. Trained ones are near 1. */
export const largestScale = 1e3;

/** The largest 1-norm of a rank's a: what comes between the two products must stay finite too. */
export const largestRankNorm = 1e10;

type Reach = {
  readonly value: number;
  readonly limit: number;
  readonly what: string;
};

/** @throws AdapterError `adapter_values_too_large` naming the module */
export function assertBounded(adapter: DecodedAdapter): void {
  for (const module of adapter.modules) {
    const beyond = reachesOf(module).find(({ value, limit }) => !(value <= limit)); // NaN is beyond, too
    if (beyond === undefined) continue;
    const { what, value, limit } = beyond;
    throw new AdapterError(
      "adapter_values_too_large",
      `${placeOf(module)}: ${what} ${value.toExponential(1)}, the limit is ${limit.toExponential(0)}; its weights have diverged, train it again with a lower learning rate or scale`,
    );
  }
}

function placeOf(module: AdapterModule): string {
  if ("projection" in module) return `layer ${module.layer}, ${module.projection}`;
  return "layer" in module ? `layer ${module.layer}, ${module.kind}` : module.kind;
}

/** What of a module has a limit. */
function reachesOf(module: AdapterModule): Reach[] {
  const enlarges = (value: number): Reach => ({
    value,
    limit: largestAmplification,
    what: "the adapter can enlarge its input",
  });
  switch (module.kind) {
    case "low-rank":
    case "head": {
      const norms = rowNorms(module.a, module.rank);
      return [
        { value: maximum(norms), limit: largestRankNorm, what: "a row of A sums to" },
        enlarges(amplification(norms, module.b)),
      ];
    }
    case "channels":
      return [enlarges(amplification(new Float64Array(module.channels.length).fill(1), module.b))];
    case "sparse":
      return [enlarges(module.values.reduce((sum, value) => sum + Math.abs(value), 0))];
    case "scale":
      return [
        { value: maximum(module.scale), limit: largestScale, what: "an output is multiplied by" },
        {
          value: maximum(module.shift ?? []),
          limit: largestAmplification,
          what: "an output is shifted by",
        },
      ];
    case "embedding": {
      const largest = Float64Array.from({ length: module.rank }, (_, rank) =>
        maximum(module.a.filter((_, index) => index % module.rank === rank)),
      );
      return [
        {
          value: amplification(largest, module.b),
          limit: largestAmplification,
          what: "an embedding reaches",
        },
      ];
    }
    case "soft-prompt":
      return [
        { value: maximum(module.hidden), limit: largestAmplification, what: "a virtual token reaches" },
      ];
    case "prefix":
      return [
        { value: maximum(module.keys), limit: largestAmplification, what: "a key reaches" },
        { value: maximum(module.values), limit: largestAmplification, what: "a value reaches" },
      ];
    default:
      return module satisfies never;
  }
}

/**
 * max over outputs of sum over ranks of |b| times what the rank can read at most.
 * @param norms [rank]
 * @param b [rank, out]
 */
export function amplification(norms: Float64Array, b: Float32Array): number {
  const outWidth = b.length / norms.length;
  const reach = new Float64Array(outWidth);
  for (const [rank, norm] of norms.entries()) {
    for (let i = 0; i < outWidth; i++) reach[i] = reach[i]! + norm * Math.abs(b[rank * outWidth + i]!);
  }
  return maximum(reach);
}

/** The 1-norm of each of `count` rows: |x a| <= this * max |x|. */
export function rowNorms(a: Float32Array, count: number): Float64Array {
  const width = a.length / count;
  const norms = new Float64Array(count);
  for (let row = 0; row < count; row++) {
    let norm = 0;
    for (let i = row * width; i < (row + 1) * width; i++) norm += Math.abs(a[i]!);
    norms[row] = norm;
  }
  return norms;
}

/** The largest magnitude; NaN where there is one. */
function maximum(values: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, Math.abs(values[i]!));
  return largest;
}
