// Finds infinities and NaNs in weights: one of them makes every output of a layer NaN.

const exponent = 0x7f80_0000; // all of its bits are set in what is not finite, and in nothing else
const lowestExponentBit = 0x0080_0000;

/** Index of the first value that is not finite, or -1. */
export function findNonFinite(values: Float32Array): number {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  // A sum that carries into the sign stays there: no branch on each value, which takes three times as long.
  let even = 0;
  let odd = 0;
  for (let i = 0; i + 1 < bits.length; i += 2) {
    even |= (bits[i]! & exponent) + lowestExponentBit;
    odd |= (bits[i + 1]! & exponent) + lowestExponentBit;
  }
  const last = ((bits.at(-1) ?? 0) & exponent) + lowestExponentBit;
  if ((even | odd | last) >= 0) return -1;
  return bits.findIndex((value) => (value & exponent) === exponent);
}
