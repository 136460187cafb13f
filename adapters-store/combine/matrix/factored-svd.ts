// The singular value decomposition of a matrix given as factors, without making the matrix: an orthonormal basis
// of each side, and Jacobi on the small core between them.

import { dot, type Factors, vectorAt } from "./factors.ts";
import { jacobiSvd, type SingularValues } from "./jacobi-svd.ts";
import { orthonormalRows } from "./orthonormal-rows.ts";

/** Of the addends' norms: what is smaller is rounding, and zero here. Addends may cancel. */
const roundingBelow = 1e-14;

export function factoredSvd({ rank, left, right }: Factors): SingularValues {
  const rowSide = orthonormalRows(left, rank);
  const columnSide = orthonormalRows(right, rank);
  const core = jacobiSvd(transposedProduct(rowSide.lower, columnSide.lower, rank), rank);
  const floor = roundingBelow * addendNorms({ rank, left, right });
  return {
    rank,
    values: core.values.map((value) => (value < floor ? 0 : value)),
    left: combinations(core.left, rowSide.basis, rank),
    right: combinations(core.right, columnSide.basis, rank),
  };
}

function addendNorms({ rank, left, right }: Factors): number {
  let sum = 0;
  for (let i = 0; i < rank; i++) {
    const [one, other] = [vectorAt(left, i, rank), vectorAt(right, i, rank)];
    sum += Math.sqrt(dot(one, one)) * Math.sqrt(dot(other, other));
  }
  return sum;
}

/** The Frobenius norm of the matrix, to about 1e-8 of the norms of its addends. */
export function factoredNorm({ rank, left, right }: Factors): number {
  let sum = 0;
  for (let i = 0; i < rank; i++) {
    for (let j = 0; j <= i; j++) {
      const ofLeft = dot(vectorAt(left, i, rank), vectorAt(left, j, rank));
      const ofRight = dot(vectorAt(right, i, rank), vectorAt(right, j, rank));
      sum += (i === j ? 1 : 2) * ofLeft * ofRight;
    }
  }
  return Math.sqrt(Math.max(0, sum));
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
