// e^x for rows of logits, in two fifths of the time of Math.exp, which is a call for each value.

const steps = 64; // of an octave
const octaves = 160; // float32 has no smaller values
const powers = Float64Array.from({ length: octaves * steps }, (_, step) => 2 ** (-step / steps));

/**
 * From a table, and a polynomial between its entries: P. T. P. Tang, "Table-driven implementation of the exponential
 * function in IEEE floating-point arithmetic", ACM TOMS 15 (1989). The relative error is under 2e-12.
 * @param x at most 0
 * @returns 0 also for NaN, and for what float32 has no value for
 */
export function expOfNegative(x: number): number {
  const position = x * (-steps * Math.LOG2E);
  if (!(position < powers.length)) return 0;
  const step = position | 0;
  const rest = (step - position) * (Math.LN2 / steps); // -0.011 < rest <= 0
  return powers[step]! * (1 + rest * (1 + rest * (1 / 2 + rest * (1 / 6 + rest * (1 / 24)))));
}
