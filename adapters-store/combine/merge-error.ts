// How far a merged matrix is from what it stands for: Frobenius norms of the changes of the weights themselves.

import { type ErrorSums, relativeError } from "../compress/weight-error.ts";
import { factoredNorm } from "./matrix/factored-svd.ts";
import type { Factors, Numbers } from "./matrix/factors.ts";
import { denseChange, factorsOf, isFactored, type MatrixModule, type MatrixPlace } from "./matrix-place.ts";
import type { MatrixMerge, MergedMatrix } from "./merge-method.ts";

export const placeGroups = ["attention", "mlp", "embedding", "head"] as const;
export type PlaceGroup = (typeof placeGroups)[number];

/** Norms of errors, relative to those of what is approximated. */
export type GroupedErrors = {
  readonly total: number;
  readonly byGroup: Partial<Record<PlaceGroup, number>>;
};

export type MatrixErrors = { readonly toTarget: ErrorSums; readonly toSum: ErrorSums };

export function matrixErrors({ place, sum }: MatrixMerge, { modules, target }: MergedMatrix): MatrixErrors {
  const [wanted, found] = [onlyFactors(sum), onlyFactors(modules)];
  if (target === null && wanted !== null && found !== null) {
    const error = isSame(sum, modules) ? 0 : distance(wanted, found);
    const toSum = { squaredError: error ** 2, squaredNorm: factoredNorm(wanted) ** 2 };
    return { toTarget: toSum, toSum };
  }
  const result = denseChange(modules, place).values;
  const toSum = entryErrors(denseChange(sum, place).values, result);
  return { toTarget: target === null ? toSum : entryErrors(target.values, result), toSum };
}

export function groupOfPlace(place: MatrixPlace): PlaceGroup {
  if (place.kind !== "projection") return place.kind;
  return ["q", "k", "v", "o"].includes(place.projection) ? "attention" : "mlp";
}

export function groupedErrors(
  matrices: readonly { readonly place: MatrixPlace; readonly sums: ErrorSums }[],
): GroupedErrors {
  const groups = Map.groupBy(matrices, ({ place }) => groupOfPlace(place));
  const relative = (of: typeof matrices) => relativeError(of.map(({ sums }) => sums));
  return {
    total: relative(matrices),
    byGroup: Object.fromEntries([...groups].map(([group, of]) => [group, relative(of)])),
  };
}

/** The Frobenius norm of one - other. */
export function distance(one: Factors, other: Factors): number {
  return factoredNorm({
    rank: one.rank + other.rank,
    left: joined(one.left, other.left),
    right: joined(
      one.right,
      other.right.map((value) => -value),
    ),
  });
}

/** Null where another kind takes part. */
function onlyFactors(modules: readonly MatrixModule[]): Factors | null {
  const [only, ...others] = modules;
  if (only === undefined) return { rank: 0, left: new Float64Array(), right: new Float64Array() };
  return others.length === 0 && isFactored(only) ? factorsOf(only) : null;
}

function isSame(one: readonly MatrixModule[], other: readonly MatrixModule[]): boolean {
  return one.length === other.length && one.every((module, index) => module === other[index]);
}

function entryErrors(wanted: Float32Array, found: Float32Array): ErrorSums {
  let [squaredError, squaredNorm] = [0, 0];
  for (let i = 0; i < wanted.length; i++) {
    squaredError += (wanted[i]! - found[i]!) ** 2;
    squaredNorm += wanted[i]! ** 2;
  }
  return { squaredError, squaredNorm };
}

function joined(one: Numbers, other: Numbers): Float64Array {
  const both = new Float64Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}
