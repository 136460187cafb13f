// 32-bit whole numbers as they are.

import { assertLength, bytesOf, type Indices, type TensorCodec } from "./tensor-codec.ts";

export const u32: TensorCodec<Indices> = {
  decode(bytes, count) {
    assertLength(bytes, count * 4);
    const values = new Uint32Array(count);
    bytesOf(values).set(bytes);
    return values;
  },
};
