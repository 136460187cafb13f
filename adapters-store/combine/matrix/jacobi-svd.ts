// The singular value decomposition of small matrices by one-sided Jacobi rotations (Hestenes 1958): simple, and
// precise for small singular values too (Demmel and Veselic 1992). Cubic per sweep: for cores, not layers.

import { dot, type Factors, vectorAt } from "./factors.ts";

/** A matrix leftᵀ diag(values) right; the vectors of a zero value may be zero. */
export type SingularValues = Factors & {
  readonly left: Float64Array; // [rank, rows], orthonormal
  readonly right: Float64Array; // [rank, columns], orthonormal
  readonly values: Float64Array; // [rank], descending
};

const mostSweeps = 60; // it converges quadratically: ten are many
const negligible = 1e-18; // of the matrix's norm: a row that is only rounding has no direction to converge to

/** @param matrix [size, columns]; @returns `size` values and vectors */
export function jacobiSvd(matrix: Float64Array, size: number): SingularValues {
  const rows = Float64Array.from(matrix); // becomes diag(values) right
  const turns = new Float64Array(size * size); // becomes left: turns matrix = rows
  for (let i = 0; i < size; i++) turns[i * size + i] = 1;
  const floor = negligible * Math.sqrt(dot(rows, rows));
  let sweeps = 0;
  while (sweep({ rows, turns, size, floor })) {
    if (++sweeps > mostSweeps)
      throw new Error(`no singular values of a ${size}-row matrix after ${mostSweeps} sweeps`);
  }
  return sorted(rows, turns, size);
}

type Sweep = {
  readonly rows: Float64Array;
  readonly turns: Float64Array;
  readonly size: number;
  readonly floor: number; // rows of a smaller norm stay as they are
};

/** Makes each two rows orthogonal once. @returns whether any two were not */
function sweep({ rows, turns, size, floor }: Sweep): boolean {
  const tolerance = Number.EPSILON * Math.max(10, size);
  let hasTurned = false;
  for (let i = 0; i < size; i++) {
    for (let j = i + 1; j < size; j++) {
      const [one, other] = [vectorAt(rows, i, size), vectorAt(rows, j, size)];
      const between = dot(one, other);
      const [ofOne, ofOther] = [dot(one, one), dot(other, other)];
      const [normOfOne, normOfOther] = [Math.sqrt(ofOne), Math.sqrt(ofOther)];
      if (normOfOne <= floor || normOfOther <= floor) continue;
      if (Math.abs(between) <= tolerance * normOfOne * normOfOther) continue;
      hasTurned = true;
      const slope = (ofOther - ofOne) / (2 * between);
      const tangent = (slope < 0 ? -1 : 1) / (Math.abs(slope) + Math.hypot(1, slope));
      turn(one, other, tangent);
      turn(vectorAt(turns, i, size), vectorAt(turns, j, size), tangent);
    }
  }
  return hasTurned;
}

function turn(one: Float64Array, other: Float64Array, tangent: number): void {
  const cosine = 1 / Math.hypot(1, tangent);
  const sine = cosine * tangent;
  for (let k = 0; k < one.length; k++) {
    const [x, y] = [one[k]!, other[k]!];
    one[k] = cosine * x - sine * y;
    other[k] = sine * x + cosine * y;
  }
}

function sorted(rows: Float64Array, turns: Float64Array, size: number): SingularValues {
  const norms = Array.from({ length: size }, (_, i) => {
    const row = vectorAt(rows, i, size);
    return Math.sqrt(dot(row, row));
  });
  const order = norms.map((_, i) => i).sort((i, j) => norms[j]! - norms[i]!);
  const values = Float64Array.from(order, (i) => norms[i]!);
  const left = new Float64Array(turns.length);
  const right = new Float64Array(rows.length);
  for (const [at, i] of order.entries()) {
    vectorAt(left, at, size).set(vectorAt(turns, i, size));
    const value = norms[i]!;
    vectorAt(right, at, size).set(vectorAt(rows, i, size).map((x) => (value === 0 ? 0 : x / value)));
  }
  return { rank: size, left, right, values };
}
