// How far a compressed module is from its original: squared Frobenius norms of what the two do to the base's
// weights (for low-rank kinds the product, not the factors), so that errors of both factors are counted as they act.

import { type AdapterModule, moduleArrays } from "../../kernels/adapter.ts";

export type ErrorSums = { readonly squaredError: number; readonly squaredNorm: number };

export function moduleError(original: AdapterModule, decoded: AdapterModule): ErrorSums {
  if ("rank" in original && "rank" in decoded) {
    const own = innerProduct(original, original);
    return {
      squaredNorm: own,
      squaredError: Math.max(0, own - 2 * innerProduct(original, decoded) + innerProduct(decoded, decoded)),
    };
  }
  const others = new Map(moduleArrays(decoded));
  let squaredError = 0;
  let squaredNorm = 0;
  for (const [name, values] of moduleArrays(original)) {
    if (values instanceof Uint32Array) continue; // stored without loss
    const other = others.get(name)!;
    for (let i = 0; i < values.length; i++) {
      squaredError += (values[i]! - other[i]!) ** 2;
      squaredNorm += values[i]! ** 2;
    }
  }
  return { squaredError, squaredNorm };
}

/** The norm of the error relative to that of the weights; 0 where both are zero. */
export function relativeError(sums: readonly ErrorSums[]): number {
  const error = sums.reduce((sum, { squaredError }) => sum + squaredError, 0);
  const norm = sums.reduce((sum, { squaredNorm }) => sum + squaredNorm, 0);
  return error === 0 ? 0 : Math.sqrt(error / norm);
}

type Factored = Extract<AdapterModule, { rank: number }>;

/** <A1ᵀ B1, A2ᵀ B2> = sum over ranks i, j of (a1_i . a2_j) (b1_i . b2_j): the product itself is never made. */
function innerProduct(one: Factored, other: Factored): number {
  const { rank } = one;
  let sum = 0;
  for (let i = 0; i < rank; i++) {
    for (let j = 0; j < rank; j++) {
      sum += dot(sideA(one, i), sideA(other, j)) * dot(rowOf(one.b, i, rank), rowOf(other.b, j, rank));
    }
  }
  return sum;
}

type Strided = {
  readonly values: Float32Array;
  readonly first: number;
  readonly step: number;
  readonly length: number;
};

function sideA(module: Factored, index: number): Strided {
  const { a, rank } = module;
  if (module.kind !== "embedding") return rowOf(a, index, rank);
  return { values: a, first: index, step: rank, length: a.length / rank }; // [vocab, rank]
}

function rowOf(values: Float32Array, index: number, rows: number): Strided {
  const length = values.length / rows;
  return { values, first: index * length, step: 1, length };
}

function dot(one: Strided, other: Strided): number {
  const { values, step, length } = one;
  const { values: others, step: otherStep } = other;
  let at = one.first;
  let otherAt = other.first;
  let [even, odd] = [0, 0]; // two sums, so that no addition waits for the one before it
  for (let i = 1; i < length; i += 2) {
    even += values[at]! * others[otherAt]!;
    odd += values[at + step]! * others[otherAt + otherStep]!;
    at += 2 * step;
    otherAt += 2 * otherStep;
  }
  return length % 2 === 0 ? even + odd : even + odd + values[at]! * others[otherAt]!;
}
