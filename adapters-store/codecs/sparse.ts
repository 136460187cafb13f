// The largest entries of a tensor with their values; the others are zero.
//
//   u8 low | u32 count | f32 unit | f16 value / unit of each entry | Rice codes of the gaps between entries

import { float16ToFloat32, float32ToFloat16 } from "../../kernels/checkpoint/float16.ts";
import { largestMagnitudes } from "./largest-magnitudes.ts";
import { gapsOf, positionsOf } from "./positions.ts";
import { chooseRice, decodeRice, encodeRice } from "./rice.ts";
import { bytesOf, type Floats, malformedTensor, type TensorCodec, viewOf, words16 } from "./tensor-codec.ts";

const headerBytes = 9;

export const sparse: TensorCodec<Floats> = {
  decode(bytes, count) {
    if (bytes.length < headerBytes) throw malformedTensor(`a sparse tensor has ${bytes.length} bytes`);
    const view = viewOf(bytes);
    const entries = view.getUint32(1, true);
    const codesAt = headerBytes + entries * 2;
    if (codesAt > bytes.length)
      throw malformedTensor(`${entries} entries do not fit into ${bytes.length} bytes`);
    const gaps = decodeRice(bytes.subarray(codesAt), { count: entries, low: bytes[0]! });
    const positions = positionsOf(gaps, count);
    const kept = new Float32Array(entries);
    float16ToFloat32(words16(bytes, headerBytes, entries), kept);
    const unit = view.getFloat32(5, true);
    const values = new Float32Array(count);
    for (let i = 0; i < entries; i++) values[positions[i]!] = kept[i]! * unit;
    return values;
  },
};

/** @param density of the entries that are kept, in (0, 1]; zeros never are */
export function encodeSparse(values: Float32Array, density: number): Uint8Array {
  const places = largestMagnitudes(values, Math.max(1, Math.round(density * values.length)));
  let unit = 0;
  for (const place of places) unit = Math.max(unit, Math.abs(values[place]!));
  const words = new Uint16Array(places.length);
  float32ToFloat16(
    Float32Array.from(places, (place) => values[place]! / unit),
    words,
  );
  const gaps = gapsOf(places);
  const code = chooseRice(gaps);
  const head = new Uint8Array(headerBytes);
  const view = viewOf(head);
  view.setUint8(0, code.low);
  view.setUint32(1, places.length, true);
  view.setFloat32(5, unit, true);
  return Buffer.concat([head, bytesOf(words), encodeRice(gaps, code)]);
}
