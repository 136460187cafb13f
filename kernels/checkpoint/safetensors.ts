// Reads tensors out of one safetensors file by position: the header when it is opened, a tensor when it is
// asked for, never the whole file. Knows no model and no shards (weights.ts does).

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { CheckpointError } from "../errors.ts";
import { bfloat16ToFloat32, float16ToFloat32 } from "./float16.ts";
import {
  type Dtype,
  dtypeBits,
  malformed,
  parseSafetensorsHeader,
  type SafetensorsHeader,
  shown,
  type TensorInfo,
} from "./safetensors-header.ts";

/** The limit of the format's reference reader. */
const maxHeaderBytes = 100_000_000;
/** Small enough that 16-bit data is still in the cache when it is widened. */
const pieceBytes = 1 << 19;
/** One readSync call takes at most 2 GiB. */
const maxReadBytes = 1 << 30;

const widen = {
  F16: float16ToFloat32,
  BF16: bfloat16ToFloat32,
} as const satisfies Partial<Record<Dtype, (source: Uint16Array, target: Float32Array) => void>>;

/**
 * Opens a file and checks its header. Throws CheckpointError with a `safetensors_*` code, or
 * `checkpoint_unreadable`. `shownAs` is how errors name the file.
 */
export function openSafetensors(path: string, shownAs: string = path): SafetensorsFile {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (cause) {
    throw unreadable(shownAs, cause);
  }
  try {
    return new SafetensorsFile(fd, shownAs, readHeader(fd, shownAs));
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** An open file; `close()` it. Reading after that is a programming error. */
export class SafetensorsFile {
  readonly tensors: ReadonlyMap<string, TensorInfo>; // in file order
  readonly metadata: Readonly<Record<string, string>>;
  readonly #fd: number;
  readonly #shownAs: string;

  constructor(fd: number, shownAs: string, header: SafetensorsHeader) {
    this.#fd = fd;
    this.#shownAs = shownAs;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
  }

  /** The tensor's bytes as they lie in the file (little-endian, row-major). */
  readRaw(name: string): Uint8Array<ArrayBuffer> {
    const tensor = this.#find(name);
    const bytes = new Uint8Array(tensor.byteLength);
    this.#read(bytes, tensor.byteOffset);
    return bytes;
  }

  /** All values, widened from F16 or BF16 where needed. Other types throw `safetensors_unreadable_dtype`. */
  readFloat32(name: string): Float32Array<ArrayBuffer> {
    const { shape } = this.#find(name);
    const rows = shape[0] ?? 1;
    return this.readFloat32Rows(name, 0, rows);
  }

  /** Rows `firstRow` to `firstRow + rowCount` of the first dimension; a scalar has one row. */
  readFloat32Rows(name: string, firstRow: number, rowCount: number): Float32Array<ArrayBuffer> {
    const tensor = this.#find(name);
    const rows = tensor.shape[0] ?? 1;
    if (firstRow < 0 || rowCount < 0 || firstRow + rowCount > rows) {
      throw new RangeError(`rows ${firstRow}+${rowCount} of "${name}", which has ${rows}`);
    }
    const valuesPerRow = tensor.shape.slice(1).reduce((product, size) => product * size, 1);
    const values = new Float32Array(rowCount * valuesPerRow);
    const position = tensor.byteOffset + (firstRow * valuesPerRow * dtypeBits[tensor.dtype]) / 8;
    this.#readValues(tensor, position, values);
    return values;
  }

  close(): void {
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #readValues(tensor: TensorInfo, position: number, values: Float32Array<ArrayBuffer>): void {
    if (tensor.dtype === "F32") {
      this.#read(new Uint8Array(values.buffer), position);
      return;
    }
    if (tensor.dtype !== "F16" && tensor.dtype !== "BF16") {
      throw new CheckpointError(
        "safetensors_unreadable_dtype",
        `${this.#shownAs}: tensor ${shown(tensor.name)} is ${tensor.dtype}; convert it to F32, F16 or BF16`,
      );
    }
    const piece = new Uint16Array(Math.min(values.length, pieceBytes / 2));
    for (let first = 0; first < values.length; first += piece.length) {
      const source = piece.subarray(0, values.length - first);
      this.#read(new Uint8Array(source.buffer, 0, source.byteLength), position + first * 2);
      widen[tensor.dtype](source, values.subarray(first));
    }
  }

  #find(name: string): TensorInfo {
    const tensor = this.tensors.get(name);
    if (tensor !== undefined) return tensor;
    throw new CheckpointError(
      "missing_tensor",
      `${this.#shownAs} has no tensor ${shown(name)}; the checkpoint is incomplete or of another architecture`,
    );
  }

  #read(target: Uint8Array, position: number): void {
    readFully(this.#fd, target, { position, shownAs: this.#shownAs });
  }
}

function readHeader(fd: number, shownAs: string): SafetensorsHeader {
  const status = fstatSync(fd);
  if (!status.isFile()) throw unreadable(shownAs, "it is not a regular file");
  if (status.size < 8) throw malformed(shownAs, `the file has ${status.size} bytes`);
  const lengthBytes = new Uint8Array(8);
  readFully(fd, lengthBytes, { position: 0, shownAs });
  const headerBytes = new DataView(lengthBytes.buffer).getBigUint64(0, true);
  if (headerBytes > maxHeaderBytes) {
    throw new CheckpointError(
      "safetensors_header_too_large",
      `${shownAs} states a header of ${headerBytes} bytes, more than the format's ${maxHeaderBytes}; this is no safetensors file, or it is damaged: download it again`,
    );
  }
  if (8 + Number(headerBytes) > status.size) {
    throw new CheckpointError(
      "safetensors_truncated",
      `${shownAs} states a header of ${headerBytes} bytes, but has ${status.size} in all; download or copy it again`,
    );
  }
  const bytes = new Uint8Array(Number(headerBytes));
  readFully(fd, bytes, { position: 8, shownAs });
  return parseSafetensorsHeader({ bytes, fileBytes: status.size, shownAs });
}

function readFully(
  fd: number,
  target: Uint8Array,
  from: { readonly position: number; readonly shownAs: string },
): void {
  let done = 0;
  while (done < target.length) {
    const length = Math.min(target.length - done, maxReadBytes);
    let count: number;
    try {
      count = readSync(fd, target, done, length, from.position + done);
    } catch (cause) {
      throw unreadable(from.shownAs, cause);
    }
    if (count === 0) {
      throw new CheckpointError(
        "safetensors_truncated",
        `${from.shownAs} ends at byte ${from.position + done}, before its tensors do: it shrank while it was read; copy it again`,
      );
    }
    done += count;
  }
}

function unreadable(shownAs: string, cause: unknown): CheckpointError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const message = `${shownAs} cannot be read: ${reason}; check the path and its permissions`;
  return new CheckpointError("checkpoint_unreadable", message, { cause });
}
