// The norm in front of the output head, row by row: few rows need it, so it has no graph.

export type NormParameters = { readonly weight: Float32Array; readonly epsilon: number };

/** @param out receives the normed row */
export function normRow(x: Float32Array, { weight, epsilon }: NormParameters, out: Float32Array): void {
  const inverse = inverseRoot(x, epsilon);
  for (let i = 0; i < x.length; i++) out[i] = x[i]! * inverse * weight[i]!;
}

/** Adds to `out` the gradient by x, given the one by the normed row. */
export function addNormGradient(
  row: { readonly x: Float32Array; readonly gradient: Float32Array; readonly factor: number },
  { weight, epsilon }: NormParameters,
  out: Float32Array,
): void {
  const { x, gradient, factor } = row;
  const inverse = inverseRoot(x, epsilon);
  let along = 0; // mean of unit row times weighted gradient
  for (let i = 0; i < x.length; i++) along += gradient[i]! * weight[i]! * x[i]!;
  along *= inverse / x.length;
  for (let i = 0; i < x.length; i++) {
    out[i]! += factor * inverse * (gradient[i]! * weight[i]! - x[i]! * inverse * along);
  }
}

function inverseRoot(x: Float32Array, epsilon: number): number {
  let squares = 0;
  for (let i = 0; i < x.length; i++) squares += x[i]! * x[i]!;
  return 1 / Math.sqrt(squares / x.length + epsilon);
}
