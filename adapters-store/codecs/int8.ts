// 8-bit integers with a scale per group (weight-only quantization as in FineQuant, arXiv 2308.09723).

import { quantizeGroups, readGroups } from "./group-scales.ts";
import { bytesOf, type Floats, type TensorCodec } from "./tensor-codec.ts";

export const int8: TensorCodec<Floats> = {
  decode(bytes, count) {
    const { groupSize, scales, integers } = readGroups(bytes, count, count);
    const signed = new Int8Array(integers.buffer, integers.byteOffset, count);
    const values = new Float32Array(count);
    for (let group = 0, i = 0; i < count; group++) {
      const scale = scales[group]!;
      for (const end = Math.min(i + groupSize, count); i < end; i++) values[i] = signed[i]! * scale;
    }
    return values;
  },
};

export function encodeInt8(values: Float32Array, groupSize: number): Uint8Array {
  const { head, integers } = quantizeGroups(values, { groupSize, levels: 127, shrinks: [1] });
  return Buffer.concat([head, bytesOf(integers)]);
}
