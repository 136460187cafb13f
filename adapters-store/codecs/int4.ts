// 4-bit integers with a scale per group: two's complement, the even value in the low half of a byte.

import { quantizeGroups, readGroups } from "./group-scales.ts";
import type { Floats, TensorCodec } from "./tensor-codec.ts";

export const int4: TensorCodec<Floats> = {
  decode(bytes, count) {
    const { groupSize, scales, integers } = readGroups(bytes, count, Math.ceil(count / 2));
    const values = new Float32Array(count);
    for (let group = 0, i = 0; i < count; group++) {
      const scale = scales[group]!;
      for (const end = Math.min(i + groupSize, count); i < end; i += 2) {
        const pair = integers[i >>> 1]!;
        values[i] = ((pair << 28) >> 28) * scale;
        values[i + 1] = ((pair << 24) >> 28) * scale; // past the end of an odd tensor: ignored
      }
    }
    return values;
  },
};

/** With so few levels it can pay to clip a group's largest values. */
const shrinks = [1, 0.93, 0.86, 0.8, 0.74];

export function encodeInt4(values: Float32Array, groupSize: number): Uint8Array {
  const { head, integers } = quantizeGroups(values, { groupSize, levels: 7, shrinks });
  const packed = new Uint8Array(Math.ceil(values.length / 2));
  for (let i = 0; i < values.length; i++) {
    packed[i >>> 1] = packed[i >>> 1]! | ((integers[i]! & 15) << ((i & 1) * 4));
  }
  return Buffer.concat([head, packed]);
}
