// The places of the largest magnitudes of an array, found without sorting it: a float's upper bits order it, so two
// counts over 16 bits each find the magnitude where the cut lies.

const halves = 1 << 16;

/**
 * Ascending places of the `count` largest magnitudes; of equal ones, those in front. What is not a number counts as
 * zero. Fewer than `count` where the array has fewer.
 */
export function topMagnitudes(values: Float32Array, count: number): Uint32Array<ArrayBuffer> {
  if (count >= values.length) return Uint32Array.from(values, (_, place) => place);
  const bits = magnitudeBits(values);
  const uppers = new Uint32Array(halves);
  for (let i = 0; i < bits.length; i++) uppers[bits[i]! >>> 16]!++;
  const upper = cut(uppers, count);
  const lowers = new Uint32Array(halves); // of those in the bin of the cut
  for (let i = 0; i < bits.length; i++) if (bits[i]! >>> 16 === upper.bin) lowers[bits[i]! & (halves - 1)]!++;
  const lower = cut(lowers, count - upper.above);
  const least = upper.bin * halves + lower.bin;
  let ties = count - upper.above - lower.above;
  const places = new Uint32Array(count);
  let found = 0;
  for (let place = 0; place < bits.length; place++) {
    const own = bits[place]!;
    if (own > least || (own === least && ties-- > 0)) places[found++] = place;
  }
  return places;
}

/** The bin in which the count-th largest lies, and how many lie in the bins above it. */
function cut(sizes: Uint32Array, count: number) {
  let above = 0;
  for (let bin = halves - 1; ; bin--) {
    if (bin === 0 || above + sizes[bin]! >= count) return { bin, above };
    above += sizes[bin]!;
  }
}

/** Magnitudes as whole numbers in the same order. */
function magnitudeBits(values: Float32Array): Uint32Array {
  const bits = new Uint32Array(values.slice().buffer);
  for (let i = 0; i < bits.length; i++) {
    bits[i]! &= 0x7fffffff;
    if (bits[i]! > 0x7f800000) bits[i] = 0;
  }
  return bits;
}
