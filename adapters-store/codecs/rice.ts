// Rice codes, the entropy code of positions: a whole number is its upper part in unary (zeros, then a one) and
// its `low` lowest bits, the highest bit of a byte first. For gaps between random positions this is within 2% of
// the entropy at densities up to a half (Golomb 1966, Rice 1979).

import { windowAt, windowBits, windowsOf } from "./bit-window.ts";
import { type Indices, malformedTensor } from "./tensor-codec.ts";

export const largestLow = 24;

/** The `low` that makes `values` smallest, and their size with it. */
export function chooseRice(values: Uint32Array): { readonly low: number; readonly bits: number } {
  let best = { low: 1, bits: Infinity };
  for (let low = 1; low <= largestLow; low++) {
    let bits = values.length * (low + 1);
    for (let i = 0; i < values.length && bits < best.bits; i++) bits += values[i]! >>> low;
    if (bits < best.bits) best = { low, bits };
  }
  return best;
}

export function encodeRice(values: Uint32Array, code = chooseRice(values)): Uint8Array {
  const { low, bits } = code;
  const bytes = new Uint8Array(Math.ceil(bits / 8));
  let position = 0;
  for (const value of values) {
    position += value >>> low;
    const width = low + 1;
    const word = ((1 << low) | (value & ((1 << low) - 1))) << (32 - width - (position & 7));
    const at = position >>> 3;
    for (let i = 0; i < 4 && at + i < bytes.length; i++) {
      bytes[at + i] = bytes[at + i]! | (word >>> (24 - 8 * i));
    }
    position += width;
  }
  return bytes;
}

/**
 * All numbers in `bytes`, which must be `count` where that is known. Each holds a one, so zeros to the end of the
 * last byte are no number. Throws AdapterError `container_tensor_malformed`, also for numbers of 2^32 and more.
 */
export function decodeRice(
  bytes: Uint8Array,
  { low, count }: { readonly low: number; readonly count?: number },
): Indices {
  const end = bytes.length * 8;
  if (low < 1 || low > largestLow)
    throw malformedTensor(`the Rice parameter ${low} is not 1 to ${largestLow}`);
  const most = Math.floor(end / (low + 1));
  if (count !== undefined && count > most) {
    throw malformedTensor(`${count} positions do not fit into ${bytes.length} bytes`);
  }
  const windows = windowsOf(bytes);
  const values = new Uint32Array(count ?? most);
  let position = 0;
  let found = 0;
  for (; found < values.length; found++) {
    const window = windowAt(windows, position);
    const zeros = Math.clz32(window);
    if (zeros + 1 + low <= windowBits) {
      values[found] = (zeros << low) | ((window << (zeros + 1)) >>> (32 - low));
      position += zeros + 1 + low;
    } else {
      if (window === 0 && end - position < 8) break;
      const long = countZeros(windows, position, end);
      if (long >= 2 ** (32 - low)) throw malformedTensor("a gap between positions is too long");
      position += long + 1;
      values[found] = (long << low) | (windowAt(windows, position) >>> (32 - low));
      position += low;
    }
    if (position > end) throw malformedTensor("the positions go on after the tensor's end");
  }
  if (end - position >= 8) throw malformedTensor("bytes follow the last position");
  if (count !== undefined && found < count) throw malformedTensor(`${found} positions of ${count} are there`);
  return values.subarray(0, found);
}

function countZeros(windows: DataView, from: number, end: number): number {
  let zeros = 0;
  for (;;) {
    if (from + zeros >= end) throw malformedTensor("the positions go on after the tensor's end");
    const run = Math.min(Math.clz32(windowAt(windows, from + zeros)), windowBits);
    zeros += run;
    if (run < windowBits) return zeros;
  }
}
