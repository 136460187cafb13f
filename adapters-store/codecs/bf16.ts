// bfloat16: the upper half of a 32-bit float.

import { bfloat16ToFloat32, float32ToBfloat16 } from "../../kernels/checkpoint/float16.ts";
import { assertLength, bytesOf, type Floats, type TensorCodec, words16 } from "./tensor-codec.ts";

export const bf16: TensorCodec<Floats> = {
  decode(bytes, count) {
    assertLength(bytes, count * 2);
    const values = new Float32Array(count);
    bfloat16ToFloat32(words16(bytes, 0, count), values);
    return values;
  },
};

export function encodeBf16(values: Float32Array): Uint8Array {
  const words = new Uint16Array(values.length);
  float32ToBfloat16(values, words);
  return bytesOf(words);
}
