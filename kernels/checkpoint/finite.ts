// Finds infinities and NaNs in weights: one of them makes every output of a layer NaN.

/** Index of the first value that is not finite, or -1. */
export function findNonFinite(values: Float32Array): number {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    if ((bits[i]! & 0x7f80_0000) === 0x7f80_0000) return i;
  }
  return -1;
}
