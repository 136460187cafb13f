// A matrix as a sum of outer products. Vectors are rows, so that every loop runs over consecutive numbers.

export type Numbers = Float32Array | Float64Array;

/** The matrix leftᵀ right [rows, columns]. */
export type Factors = {
  readonly rank: number;
  readonly left: Numbers; // [rank, rows]
  readonly right: Numbers; // [rank, columns]
};

export function vectorAt<Kind extends Numbers>(vectors: Kind, index: number, count: number): Kind {
  const length = vectors.length / count;
  return vectors.subarray(index * length, (index + 1) * length) as Kind;
}

export function dot(one: Numbers, other: Numbers): number {
  let [even, odd] = [0, 0]; // two sums, so that no addition waits for the one before it
  const whole = one.length - (one.length % 2);
  for (let i = 0; i < whole; i += 2) {
    even += one[i]! * other[i]!;
    odd += one[i + 1]! * other[i + 1]!;
  }
  return whole === one.length ? even + odd : even + odd + one[whole]! * other[whole]!;
}

/** @returns [columns, rows] of a matrix [rows, columns] */
export function transposed(matrix: Numbers, rows: number): Float32Array<ArrayBuffer> {
  const columns = matrix.length / rows;
  const result = new Float32Array(matrix.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      result[column * rows + row] = matrix[row * columns + column]!;
    }
  }
  return result;
}
