// Ascending whole numbers, no two alike, by the gaps between them: u8 low | Rice codes.

import { gapsOf, positionsOf } from "./positions.ts";
import { chooseRice, decodeRice, encodeRice } from "./rice.ts";
import { type Indices, malformedTensor, type TensorCodec } from "./tensor-codec.ts";

export const gaps: TensorCodec<Indices> = {
  decode(bytes, count) {
    if (bytes.length === 0) throw malformedTensor("a tensor of gaps has no bytes");
    return positionsOf(decodeRice(bytes.subarray(1), { count, low: bytes[0]! }), 2 ** 32);
  },
};

/** @param values ascending, no two alike */
export function encodeGaps(values: Uint32Array): Uint8Array {
  const steps = gapsOf(values);
  const code = chooseRice(steps);
  return Buffer.concat([Uint8Array.of(code.low), encodeRice(steps, code)]);
}
