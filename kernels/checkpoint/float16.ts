// Conversions between 32-bit floats and the two 16-bit formats of checkpoints. All work on whole arrays and
// write into the caller's array; narrowing rounds to nearest, ties to even, as PyTorch does.

/** Bit patterns of the float32 value of every float16, indexed by its bits. */
const float32BitsOfFloat16 = Uint32Array.from({ length: 65_536 }, (_, half) => widenFloat16(half));

export function bfloat16ToFloat32(source: Uint16Array, target: Float32Array): void {
  const bits = bitsOf(target);
  for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16;
}

export function float16ToFloat32(source: Uint16Array, target: Float32Array): void {
  const bits = bitsOf(target);
  for (let i = 0; i < source.length; i++) bits[i] = float32BitsOfFloat16[source[i]!]!;
}

export function float32ToBfloat16(source: Float32Array, target: Uint16Array): void {
  const bits = bitsOf(source);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i]!;
    const notANumber = (word & 0x7fff_ffff) > 0x7f80_0000;
    target[i] = notANumber ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
}

export function float32ToFloat16(source: Float32Array, target: Uint16Array): void {
  const bits = bitsOf(source);
  for (let i = 0; i < bits.length; i++) target[i] = narrowToFloat16(bits[i]!);
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

function widenFloat16(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f80_0000 | (mantissa << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  // A subnormal half is a normal float: move its leading one to the implicit bit.
  const leadingZeros = Math.clz32(mantissa) - 21;
  return sign | ((113 - leadingZeros) << 23) | (((mantissa << leadingZeros) & 0x3ff) << 13);
}

function narrowToFloat16(word: number): number {
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fff_ffff;
  if (magnitude > 0x7f80_0000) return sign | 0x7e00;
  if (magnitude >= 0x4780_0000) return sign | 0x7c00; // 65,536 and above
  if (magnitude >= 0x3880_0000) {
    const rebased = magnitude - 0x3800_0000;
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13); // the carry may reach infinity: 0x7c00
  }
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return sign;
  const mantissa = (magnitude & 0x7f_ffff) | 0x80_0000;
  const kept = mantissa >>> shift;
  const rest = mantissa - kept * 2 ** shift;
  const half = 2 ** (shift - 1);
  return sign | (rest > half || (rest === half && (kept & 1) === 1) ? kept + 1 : kept);
}
