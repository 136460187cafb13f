// The header of a GGUF file (version 2 or 3, little-endian): metadata, and where which tensor lies. Format: ggml's
// docs/gguf.md.

import { AdapterError } from "../../kernels/errors.ts";

const maxDimensions = 4;

/** By ggml's type number: bytes of a block, and values in it. */
export const tensorTypes = {
  0: { name: "F32", blockBytes: 4, blockValues: 1 },
  1: { name: "F16", blockBytes: 2, blockValues: 1 },
  8: { name: "Q8_0", blockBytes: 34, blockValues: 32 },
  30: { name: "BF16", blockBytes: 2, blockValues: 1 },
} as const;

export type GgufTensor = {
  readonly shape: readonly number[]; // row-major, as in PyTorch
  readonly type: keyof typeof tensorTypes;
  readonly byteOffset: number; // in the file
  readonly byteLength: number;
};

/** Arrays are null: what they hold is no business of adapters'. */
export type GgufValue = string | number | boolean | bigint | null;

export type GgufHeader = {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
};

/** `bytes` are the file's first, `size` is the whole file's. Throws AdapterError, or RangeError at their end. */
export function parseGgufHeader(bytes: Uint8Array, size: number, shownAs: string): GgufHeader {
  const cursor = new Cursor(bytes);
  if (cursor.take(4).toString("latin1") !== "GGUF") throw malformed(shownAs, "is no GGUF file");
  const version = cursor.uint32();
  if (version !== 2 && version !== 3) throw malformed(shownAs, `is of version ${version}, not 2 or 3`);
  const tensorCount = cursor.size();
  const metadata = readMetadata(cursor, cursor.size(), shownAs);
  return { metadata, tensors: readTensorList(cursor, tensorCount, { metadata, size, shownAs }) };
}

/** Reads on from where it stands; past the end, the view throws RangeError. */
class Cursor {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  take(length: number): Buffer {
    if (length > this.#bytes.length - this.at) throw new RangeError("past the end");
    this.at += length;
    return this.#bytes.subarray(this.at - length, this.at);
  }

  uint32(): number {
    this.at += 4;
    return this.#view.getUint32(this.at - 4, true);
  }

  /** A 64-bit count or length. */
  size(): number {
    this.at += 8;
    const value = this.#view.getBigUint64(this.at - 8, true);
    if (value > Number.MAX_SAFE_INTEGER) throw new RangeError("past the end");
    return Number(value);
  }

  string(): string {
    return this.take(this.size()).toString("utf8");
  }

  /** A fixed-size value of `bytes` bytes, by the view's reader. */
  value<T>(bytes: number, read: (view: DataView, at: number) => T): T {
    this.at += bytes;
    return read(this.#view, this.at - bytes);
  }
}

type Scalar = { readonly bytes: number; readonly read: (view: DataView, at: number) => GgufValue };

/** By GGUF's value type number; 8 is a string, 9 an array. */
const scalars: Readonly<Record<number, Scalar>> = {
  0: { bytes: 1, read: (view, at) => view.getUint8(at) },
  1: { bytes: 1, read: (view, at) => view.getInt8(at) },
  2: { bytes: 2, read: (view, at) => view.getUint16(at, true) },
  3: { bytes: 2, read: (view, at) => view.getInt16(at, true) },
  4: { bytes: 4, read: (view, at) => view.getUint32(at, true) },
  5: { bytes: 4, read: (view, at) => view.getInt32(at, true) },
  6: { bytes: 4, read: (view, at) => view.getFloat32(at, true) },
  7: { bytes: 1, read: (view, at) => view.getUint8(at) !== 0 },
  10: { bytes: 8, read: (view, at) => view.getBigUint64(at, true) },
  11: { bytes: 8, read: (view, at) => view.getBigInt64(at, true) },
  12: { bytes: 8, read: (view, at) => view.getFloat64(at, true) },
};
const stringType = 8;
const arrayType = 9;

function readMetadata(cursor: Cursor, count: number, shownAs: string): Map<string, GgufValue> {
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    const key = cursor.string();
    if (metadata.has(key)) throw malformed(shownAs, `holds ${JSON.stringify(key.slice(0, 100))} twice`);
    metadata.set(key, readValue(cursor, cursor.uint32(), shownAs));
  }
  return metadata;
}

function readValue(cursor: Cursor, type: number, shownAs: string): GgufValue {
  if (type === stringType) return cursor.string();
  if (type === arrayType) return skipArray(cursor, shownAs);
  const scalar = scalars[type];
  if (scalar === undefined) throw malformed(shownAs, `has a value of the unknown type ${type}`);
  return cursor.value(scalar.bytes, scalar.read);
}

function skipArray(cursor: Cursor, shownAs: string): null {
  const type = cursor.uint32();
  const length = cursor.size();
  const scalar = scalars[type];
  if (scalar !== undefined) cursor.take(length * scalar.bytes);
  else if (type === stringType) for (let i = 0; i < length; i++) cursor.string();
  else throw malformed(shownAs, `has an array of the unknown type ${type}`);
  return null;
}

function readTensorList(
  cursor: Cursor,
  count: number,
  file: {
    readonly metadata: ReadonlyMap<string, GgufValue>;
    readonly size: number;
    readonly shownAs: string;
  },
): Map<string, GgufTensor> {
  const { metadata, size, shownAs } = file;
  const tensors = new Map<string, GgufTensor>();
  for (let i = 0; i < count; i++) {
    const name = cursor.string();
    const shown = JSON.stringify(name.slice(0, 100));
    if (tensors.has(name)) throw malformed(shownAs, `holds ${shown} twice`);
    const dimensions = cursor.uint32();
    if (dimensions > maxDimensions) throw malformed(shownAs, `gives ${shown} ${dimensions} dimensions`);
    const sizes = Array.from({ length: dimensions }, () => cursor.size()); // fastest first
    const type = cursor.uint32();
    const byteOffset = cursor.size(); // of the data section, for now
    tensors.set(name, { ...sizeOf({ name: shown, sizes, type }, shownAs), byteOffset });
  }
  const alignment = metadata.get("general.alignment") ?? 32;
  if (typeof alignment !== "number" || !(alignment > 0))
    throw malformed(shownAs, `has the alignment ${alignment}`);
  const data = Math.ceil(cursor.at / alignment) * alignment;
  // Tensors that overlap could be many times the file.
  const bytes = [...tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  if (data + bytes > size) throw malformed(shownAs, "is smaller than its tensors");
  for (const [name, tensor] of tensors) {
    const byteOffset = data + tensor.byteOffset;
    if (byteOffset + tensor.byteLength > size)
      throw malformed(shownAs, `ends before ${JSON.stringify(name)} does`);
    tensors.set(name, { ...tensor, byteOffset });
  }
  return tensors;
}

function sizeOf(
  { name, sizes, type }: { readonly name: string; readonly sizes: readonly number[]; readonly type: number },
  shownAs: string,
): Omit<GgufTensor, "byteOffset"> {
  if (!Object.hasOwn(tensorTypes, type)) {
    throw new AdapterError(
      "gguf_unreadable_dtype",
      `${shownAs}: ${name} is of ggml's type ${type}; convert the adapter with --outtype f32, f16, bf16 or q8_0`,
    );
  }
  const known = type as keyof typeof tensorTypes;
  const { blockBytes, blockValues } = tensorTypes[known];
  const values = sizes.reduce((product, size) => product * size, 1);
  if (values % blockValues !== 0 || (sizes[0] ?? 0) % blockValues !== 0) {
    throw malformed(shownAs, `holds half a block in ${name}`);
  }
  return { shape: sizes.toReversed(), type: known, byteLength: (values / blockValues) * blockBytes };
}

export function malformed(shownAs: string, what: string): AdapterError {
  return new AdapterError("gguf_malformed", `${shownAs} ${what}; convert or copy it again`);
}
