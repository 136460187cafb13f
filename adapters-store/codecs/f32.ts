// 32-bit floats as they are.

import { assertLength, bytesOf, type Floats, type TensorCodec } from "./tensor-codec.ts";

export const f32: TensorCodec<Floats> = {
  decode(bytes, count) {
    assertLength(bytes, count * 4);
    const values = new Float32Array(count);
    bytesOf(values).set(bytes);
    return values;
  },

  adopt(bytes, count) {
    assertLength(bytes, count * 4);
    return new Float32Array(bytes.buffer, 0, count);
  },
};

/** The values' own memory. */
export function encodeF32(values: Float32Array): Uint8Array {
  return bytesOf(values);
}
