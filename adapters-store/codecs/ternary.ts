// ComPEFT (arXiv 2311.13171): the largest entries of a tensor keep their signs, all have one magnitude, alpha
// times the tensor's standard deviation; the others are zero. Where they are is stored in one of three forms; bitmaps are
// never the smallest.
//
//   u8 0 | f32 magnitude | bitmap of the positive entries | bitmap of the negative ones
//   u8 low | f32 magnitude | Rice codes of 2 * gap + (1 where negative)
//   urn codes, see urn.ts; their first byte is 32 or more

import { float32ToBfloat16 } from "../../kernels/checkpoint/float16.ts";
import { AdapterError } from "../../kernels/errors.ts";
import { largestMagnitudes } from "./largest-magnitudes.ts";
import { chooseRice, decodeRice, encodeRice } from "./rice.ts";
import { type Floats, malformedTensor, type TensorCodec, viewOf } from "./tensor-codec.ts";
import { decodeUrn, encodeUrn, firstUrnForm, type TernaryEntries } from "./urn.ts";

const headerBytes = 5; // of the first two forms
/** Rice codes are read at half the speed of urn codes where many entries are kept, so they must save something. */
const worthwhile = 0.98;

export type TernaryOptions = {
  readonly density: number; // of the entries that are kept, in (0, 1]
  /** Default: whatever makes the magnitude the mean of the kept ones, which has the least squared error. */
  readonly alpha?: number;
  readonly positions?: keyof typeof forms; // default: the smallest one, nearly
};

const forms = { bitmaps: encodeBitmaps, rice: encodeGaps, urn: encodeUrn };

export const ternary: TensorCodec<Floats> = {
  hasOneMagnitude: true,

  decode(bytes, count, { rows }) {
    if (bytes.length > 0 && bytes[0]! >= firstUrnForm) return decodeUrn(bytes, { count, rows });
    if (bytes.length < headerBytes) throw malformedTensor(`a ternary tensor has ${bytes.length} bytes`);
    return bytes[0] === 0 ? decodeBitmaps(bytes, count) : decodeGaps(bytes, count);
  },
};

/**
 * Throws AdapterError `codec_out_of_range`.
 *
 * @param options.density has at least one entry kept, of which none is zero
 * @param rows of the tensor's shape
 */
export function encodeTernary(values: Float32Array, options: TernaryOptions, rows: number): Uint8Array {
  const places = largestMagnitudes(values, Math.max(1, Math.round(options.density * values.length)));
  const magnitude =
    options.alpha === undefined ? meanMagnitude(values, places) : options.alpha * standardDeviation(values);
  const entries = {
    magnitude: upperHalf(magnitude),
    places,
    isNegative: (place: number) => values[place]! < 0,
  };
  const size = { count: values.length, rows };
  if (options.positions !== undefined) return forms[options.positions](entries, size);
  const urn = encodeUrn(entries, size);
  const gaps = encodeGaps(entries);
  return gaps.length < urn.length * worthwhile ? gaps : urn;
}

/** Of the magnitude's float: eight bits of precision are plenty beside what keeping signs alone loses. */
function upperHalf(magnitude: number): number {
  const word = new Uint16Array(1);
  float32ToBfloat16(Float32Array.of(magnitude), word);
  if (word[0]! < 0x7f80) return word[0]!;
  throw new AdapterError(
    "codec_out_of_range",
    `the magnitude ${magnitude} does not fit into a bfloat16; lower alpha, or use f32`,
  );
}

function encodeGaps({ magnitude, places, isNegative }: TernaryEntries): Uint8Array {
  const codes = new Uint32Array(places.length);
  for (let i = 0, next = 0; i < places.length; i++) {
    const place = places[i]!;
    codes[i] = (place - next) * 2 + (isNegative(place) ? 1 : 0);
    next = place + 1;
  }
  const code = chooseRice(codes);
  const bytes = new Uint8Array(headerBytes + Math.ceil(code.bits / 8));
  const view = viewOf(bytes);
  view.setUint8(0, code.low);
  view.setUint32(1, magnitude << 16, true);
  bytes.set(encodeRice(codes, code), headerBytes);
  return bytes;
}

function encodeBitmaps(
  { magnitude, places, isNegative }: TernaryEntries,
  { count }: { readonly count: number },
): Uint8Array {
  const mapBytes = Math.ceil(count / 8);
  const bytes = new Uint8Array(headerBytes + 2 * mapBytes);
  viewOf(bytes).setUint32(1, magnitude << 16, true);
  for (const place of places) {
    const at = headerBytes + (isNegative(place) ? mapBytes : 0) + (place >>> 3);
    bytes[at] = bytes[at]! | (1 << (place & 7));
  }
  return bytes;
}

function decodeBitmaps(bytes: Uint8Array, count: number): Floats {
  const magnitude = viewOf(bytes).getFloat32(1, true);
  const maps = bytes.subarray(headerBytes);
  const mapBytes = Math.ceil(count / 8);
  if (maps.length !== 2 * mapBytes) {
    throw malformedTensor(`two bitmaps have ${maps.length} bytes where ${count} values take ${2 * mapBytes}`);
  }
  const values = new Float32Array(count);
  for (let at = 0; at < mapBytes; at++) {
    const positive = maps[at]!;
    const negative = maps[mapBytes + at]!;
    if ((positive & negative) !== 0) throw malformedTensor(`a value near ${at * 8} has both signs`);
    if ((positive | negative) === 0) continue;
    const first = at * 8;
    // Past the end of the last byte: ignored.
    for (let bit = 0; bit < 8; bit++) {
      values[first + bit] = (((positive >>> bit) & 1) - ((negative >>> bit) & 1)) * magnitude;
    }
  }
  return values;
}

function decodeGaps(bytes: Uint8Array, count: number): Floats {
  const codes = decodeRice(bytes.subarray(headerBytes), { low: bytes[0]! });
  const values = new Float32Array(count);
  const bits = new Int32Array(values.buffer); // signs are set as bits: nobody can predict a branch on them
  const magnitudeBits = viewOf(bytes).getInt32(1, true);
  let next = 0;
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i]!;
    const place = next + (code >>> 1);
    if (place >= count) throw malformedTensor(`a position is ${place} of ${count}`);
    bits[place] = magnitudeBits ^ (code << 31);
    next = place + 1;
  }
  return values;
}

function meanMagnitude(values: Float32Array, places: Uint32Array): number {
  let sum = 0;
  for (const place of places) sum += Math.abs(values[place]!);
  return places.length === 0 ? 0 : sum / places.length;
}

function standardDeviation(values: Float32Array): number {
  let sum = 0;
  let squares = 0;
  for (const value of values) {
    sum += value;
    squares += value * value;
  }
  const mean = sum / values.length;
  return Math.sqrt(Math.max(0, squares / values.length - mean * mean));
}
