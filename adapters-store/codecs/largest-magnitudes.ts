// Which entries of a tensor are its largest by magnitude.

/** Ascending places of the `count` largest; of equal ones the first. Zeros are never among them. */
export function largestMagnitudes(values: Float32Array, count: number): Uint32Array<ArrayBuffer> {
  const { bits: threshold, atThreshold } = findThreshold(values, count);
  const bits = bitsOf(values);
  const places = new Uint32Array(Math.min(count, values.length));
  let found = 0;
  let ties = atThreshold;
  for (let i = 0; i < bits.length; i++) {
    const magnitude = bits[i]! & 0x7fff_ffff;
    if (magnitude < threshold || magnitude === 0) continue;
    if (magnitude === threshold && ties-- <= 0) continue;
    places[found++] = i;
  }
  return places.slice(0, found);
}

/** The smallest magnitude that is taken, as the bits of a float, and how many entries of just that are. */
function findThreshold(
  values: Float32Array,
  count: number,
): { readonly bits: number; readonly atThreshold: number } {
  // The bits of positive floats are ordered as their values are, so two passes of counting find the threshold.
  const bits = bitsOf(values);
  const upper = new Uint32Array(1 << 16);
  for (let i = 0; i < bits.length; i++) upper[(bits[i]! & 0x7fff_ffff) >>> 15]!++;
  const coarse = takeFromTop(upper, count);
  const lower = new Uint32Array(1 << 15);
  for (let i = 0; i < bits.length; i++) {
    const magnitude = bits[i]! & 0x7fff_ffff;
    if (magnitude >>> 15 === coarse.bucket) lower[magnitude & 0x7fff]!++;
  }
  const fine = takeFromTop(lower, coarse.inBucket);
  return { bits: (coarse.bucket << 15) | fine.bucket, atThreshold: fine.inBucket };
}

/** The bucket in which the `count`-th entry from the top lies, and how many of it are taken. */
function takeFromTop(
  buckets: Uint32Array,
  count: number,
): { readonly bucket: number; readonly inBucket: number } {
  let left = count;
  for (let bucket = buckets.length - 1; bucket > 0; bucket--) {
    if (buckets[bucket]! >= left) return { bucket, inBucket: left };
    left -= buckets[bucket]!;
  }
  return { bucket: 0, inBucket: left };
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}
