// The leading singular values of a dense matrix by random projection (Halko, Martinsson and Tropp, arXiv 0909.4061,
// algorithms 4.4 and 5.1): a seeded sample of its range, sharpened by power iterations. Near the optimum, and exact for
// small matrices and ranks near the matrix's own: callers measure the error that is left.

import { mix, randomAt } from "../../../kernels/sampling/random.ts";
import { type Dense, times, timesTransposed } from "./dense-products.ts";
import { factoredSvd } from "./factored-svd.ts";
import type { SingularValues } from "./jacobi-svd.ts";
import { orthonormalRows } from "./orthonormal-rows.ts";

const oversampling = 8;
const powerIterations = 2;
const exactUpTo = 64; // rows or columns: the whole range is cheap
const sampleSeed = 0x51ed270b; // of no consequence beside that it stays the same

/** @returns at least `rank` values and vectors, or as many as the matrix has */
export function denseSvd(matrix: Dense, rank: number): SingularValues {
  const { rows, columns } = matrix;
  const most = Math.min(rows, columns);
  const count = most <= exactUpTo ? most : Math.min(rank + oversampling, most);
  const orthonormal = (vectors: Float64Array) => orthonormalRows(vectors, count).basis;
  let range = orthonormal(timesTransposed(normalNumbers(count * columns), count, matrix));
  for (let i = 0; i < powerIterations; i++) {
    range = orthonormal(timesTransposed(orthonormal(times(range, count, matrix)), count, matrix));
  }
  return factoredSvd({ rank: count, left: range, right: times(range, count, matrix) });
}

/** Box and Muller's. */
function normalNumbers(length: number): Float64Array {
  return Float64Array.from({ length }, (_, i) => {
    const radius = Math.sqrt(-2 * Math.log(1 - randomAt(mix(sampleSeed), 2 * i)));
    return radius * Math.cos(2 * Math.PI * randomAt(mix(sampleSeed), 2 * i + 1));
  });
}
