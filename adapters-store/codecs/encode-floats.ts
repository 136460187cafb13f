// One tensor of floats into the bytes of a codec.

import { encodeBf16 } from "./bf16.ts";
import { encodeF16 } from "./f16.ts";
import { encodeF32 } from "./f32.ts";
import { encodeInt4 } from "./int4.ts";
import { encodeInt8 } from "./int8.ts";
import { encodeSparse } from "./sparse.ts";
import { encodeTernary, type TernaryOptions } from "./ternary.ts";

/** A codec and what it needs to be told; a ledger cannot be made from values. */
export type Encoding =
  | { readonly codec: "f32" | "f16" | "bf16" }
  | { readonly codec: "int8" | "int4"; readonly groupSize: number }
  | ({ readonly codec: "ternary" } & TernaryOptions)
  | { readonly codec: "sparse"; readonly density: number };

/**
 * Values must be finite. Throws AdapterError `codec_out_of_range`.
 *
 * @param rows of the tensor's shape
 */
export function encodeFloats(values: Float32Array, encoding: Encoding, rows: number): Uint8Array {
  switch (encoding.codec) {
    case "f32":
      return encodeF32(values);
    case "f16":
      return encodeF16(values);
    case "bf16":
      return encodeBf16(values);
    case "int8":
      return encodeInt8(values, encoding.groupSize);
    case "int4":
      return encodeInt4(values, encoding.groupSize);
    case "ternary":
      return encodeTernary(values, encoding, rows);
    case "sparse":
      return encodeSparse(values, encoding.density);
  }
}
