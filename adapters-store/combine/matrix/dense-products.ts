// Products of a few vectors with a large dense matrix, the work of a truncated decomposition. Blocks of four vectors
// by two rows: each number that is read serves several products.

import { vectorAt } from "./factors.ts";

/** A matrix [rows, columns], row-major. */
export type Dense = { readonly rows: number; readonly columns: number; readonly values: Float32Array };

/** vectors [count, columns] times matrixᵀ. @returns [count, rows] */
export function timesTransposed(vectors: Float64Array, count: number, matrix: Dense): Float64Array {
  const { rows, columns, values } = matrix;
  const vector = (index: number) => vectorAt(vectors, Math.min(index, count - 1), count);
  const result = new Float64Array(Math.ceil(count / 4) * 4 * rows); // beyond the last vector, the last again
  for (let first = 0; first < count; first += 4) {
    const [a, b, c, d] = [vector(first), vector(first + 1), vector(first + 2), vector(first + 3)];
    for (let row = 0; row < rows; row++) {
      const start = row * columns;
      let [s0, s1, s2, s3] = [0, 0, 0, 0];
      for (let k = 0; k < columns; k++) {
        const value = values[start + k]!;
        s0 += value * a[k]!;
        s1 += value * b[k]!;
        s2 += value * c[k]!;
        s3 += value * d[k]!;
      }
      const at = first * rows + row;
      result[at] = s0;
      result[at + rows] = s1;
      result[at + 2 * rows] = s2;
      result[at + 3 * rows] = s3;
    }
  }
  return result.slice(0, count * rows);
}

/** vectors [count, rows] times matrix. @returns [count, columns] */
export function times(vectors: Float64Array, count: number, matrix: Dense): Float64Array {
  const { rows, columns, values } = matrix;
  const result = new Float64Array(count * columns);
  for (let first = 0; first < rows; first += 4) {
    const start = (row: number) => Math.min(first + row, rows - 1) * columns; // beyond the last row, zero times it
    const [r0, r1, r2, r3] = [start(0), start(1), start(2), start(3)];
    for (let i = 0; i < count; i++) {
      const factor = (row: number) => (first + row < rows ? vectors[i * rows + first + row]! : 0);
      const [x0, x1, x2, x3] = [factor(0), factor(1), factor(2), factor(3)];
      const target = vectorAt(result, i, count);
      for (let k = 0; k < columns; k++) {
        target[k]! +=
          x0 * values[r0 + k]! + x1 * values[r1 + k]! + x2 * values[r2 + k]! + x3 * values[r3 + k]!;
      }
    }
  }
  return result;
}
