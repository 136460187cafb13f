// IEEE 754 half precision.

import { float16ToFloat32, float32ToFloat16 } from "../../kernels/checkpoint/float16.ts";
import { AdapterError } from "../../kernels/errors.ts";
import { assertLength, bytesOf, type Floats, type TensorCodec, words16 } from "./tensor-codec.ts";

export const f16: TensorCodec<Floats> = {
  decode(bytes, count) {
    assertLength(bytes, count * 2);
    const values = new Float32Array(count);
    float16ToFloat32(words16(bytes, 0, count), values);
    return values;
  },
};

const firstTooLarge = 65_520; // rounds to infinity

/** Throws AdapterError `codec_out_of_range`. */
export function encodeF16(values: Float32Array): Uint8Array {
  const tooLarge = values.find((value) => Math.abs(value) >= firstTooLarge);
  if (tooLarge !== undefined) {
    throw new AdapterError(
      "codec_out_of_range",
      `${tooLarge} does not fit into 16-bit floats, which end at 65504; use bf16 or f32`,
    );
  }
  const words = new Uint16Array(values.length);
  float32ToFloat16(values, words);
  return bytesOf(words);
}
