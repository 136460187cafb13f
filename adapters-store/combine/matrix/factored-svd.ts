// The singular value decomposition of a matrix given as factors, without making the matrix: an orthonormal basis
// of each side, and Jacobi on the small core between them.

import { dot, type Factors, vectorAt } from "./factors.ts";
import { jacobiSvd, type SingularValues } from "./jacobi-svd.ts";
import { orthonormalRows } from "./orthonormal-rows.ts";

export function factoredSvd({ rank, left, right }: Factors): SingularValues {
  const rowSide = orthonormalRows(left, rank);
  const columnSide = orthonormalRows(right, rank);
  const core = jacobiSvd(transposedProduct(rowSide.lower, columnSide.lower, rank), rank);
  return {
    rank,
    values: core.values,
    left: combinations(core.left, rowSide.basis, rank),
    right: combinations(core.right, columnSide.basis, rank),
  };
}

/** The Frobenius norm of the matrix. */
export function factoredNorm({ rank, left, right }: Factors): number {
  const core = transposedProduct(orthonormalRows(left, rank).lower, orthonormalRows(right, rank).lower, rank);
  return Math.sqrt(dot(core, core));
}

/** The matrix of rank at most `rank` that is nearest (Eckart and Young 1936), the values in `left`. */
export function truncated({ values, left, right }: SingularValues, rank: number): Factors {
  const kept = Math.min(rank, values.length);
  const scaled = new Float64Array((kept * left.length) / values.length);
  for (let i = 0; i < kept; i++) {
    const value = values[i]!;
    vectorAt(scaled, i, kept).set(vectorAt(left, i, values.length).map((x) => x * value));
  }
  return {
    rank: kept,
    left: scaled,
    right: right.subarray(0, (kept * right.length) / values.length),
  };
}

/** How many values make up the matrix but for `tolerance` of its norm. */
export function significantRank(values: Float64Array, tolerance: number): number {
  const allowed = tolerance ** 2 * dot(values, values);
  let rank = values.length;
  let lost = 0;
  while (rank > 0 && lost + values[rank - 1]! ** 2 <= allowed) lost += values[--rank]! ** 2;
  return rank;
}

/** oneᵀ other, all [size, size]. */
function transposedProduct(one: Float64Array, other: Float64Array, size: number): Float64Array {
  const product = new Float64Array(size * size);
  for (let k = 0; k < size; k++) {
    const addend = vectorAt(other, k, size);
    for (let i = 0; i < size; i++) addTimes(vectorAt(product, i, size), addend, one[k * size + i]!);
  }
  return product;
}

/** factors [size, size] times vectors [size, length]. */
function combinations(factors: Float64Array, vectors: Float64Array, size: number): Float64Array {
  const result = new Float64Array(vectors.length);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) {
      addTimes(vectorAt(result, i, size), vectorAt(vectors, j, size), factors[i * size + j]!);
    }
  }
  return result;
}

function addTimes(target: Float64Array, addend: Float64Array, factor: number): void {
  if (factor === 0) return;
  for (let k = 0; k < target.length; k++) target[k]! += factor * addend[k]!;
}
