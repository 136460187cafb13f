// QR of a matrix whose rows are the vectors: modified Gram-Schmidt, each vector twice, which keeps the basis
// orthogonal to rounding whatever the input's condition (Giraud and others, Numer. Math. 2005).

import { dot, type Numbers, vectorAt } from "./factors.ts";

/** What is left of a vector below this part of it is rounding: it depends on the vectors before it. */
const dependentBelow = 1e-13;

export type OrthonormalRows = {
  readonly basis: Float64Array; // [count, length]: orthonormal rows, zero where a vector depends on earlier ones
  readonly lower: Float64Array; // [count, count], lower triangular: vectors = lower basis
};

export function orthonormalRows(vectors: Numbers, count: number): OrthonormalRows {
  const basis = Float64Array.from(vectors);
  const lower = new Float64Array(count * count);
  for (let i = 0; i < count; i++) {
    const vector = vectorAt(basis, i, count);
    const original = Math.sqrt(dot(vector, vector));
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) {
        const earlier = vectorAt(basis, j, count);
        const along = dot(vector, earlier);
        lower[i * count + j]! += along;
        for (let k = 0; k < vector.length; k++) vector[k]! -= along * earlier[k]!;
      }
    }
    const norm = Math.sqrt(dot(vector, vector));
    const isDependent = norm <= dependentBelow * original;
    const factor = isDependent ? 0 : 1 / norm;
    for (let k = 0; k < vector.length; k++) vector[k]! *= factor;
    lower[i * count + i] = isDependent ? 0 : norm;
  }
  return { basis, lower };
}
