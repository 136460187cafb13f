// Reads a GGUF file: its header when it is opened, a tensor when it is asked for. Knows no model and no adapter.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { bfloat16ToFloat32, float16ToFloat32 } from "../../kernels/checkpoint/float16.ts";
import { type GgufTensor, type GgufValue, malformed, parseGgufHeader, tensorTypes } from "./gguf-header.ts";

/** Far beyond an adapter's: vocabularies, which are large, are no part of one. */
const maxHeaderBytes = 16 << 20;

/** Throws AdapterError `gguf_malformed`, `gguf_unreadable_dtype`. */
export function openGguf(path: string, shownAs: string): GgufFile {
  const fd = openSync(path, "r");
  try {
    return new GgufFile(fd, shownAs);
  } catch (error) {
    closeSync(fd);
    throw error instanceof RangeError ? malformed(shownAs, "ends within its header") : error;
  }
}

/** An open file; `close()` it. */
export class GgufFile implements Disposable {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  readonly #fd: number;
  readonly #shownAs: string;

  constructor(fd: number, shownAs: string) {
    this.#fd = fd;
    this.#shownAs = shownAs;
    const { size } = fstatSync(fd);
    const header = new Uint8Array(Math.min(size, maxHeaderBytes));
    this.#read(header, 0);
    const { metadata, tensors } = parseGgufHeader(header, size, shownAs);
    this.metadata = metadata;
    this.tensors = tensors;
  }

  /** Row-major values, dequantized. */
  readFloat32(name: string): Float32Array<ArrayBuffer> {
    const { type, byteOffset, byteLength } = this.tensors.get(name)!;
    const bytes = new Uint8Array(byteLength);
    this.#read(bytes, byteOffset);
    const { name: typeName, blockBytes, blockValues } = tensorTypes[type];
    const values = new Float32Array((byteLength / blockBytes) * blockValues);
    if (typeName === "F32") new Uint8Array(values.buffer).set(bytes);
    else if (typeName === "F16") float16ToFloat32(new Uint16Array(bytes.buffer), values);
    else if (typeName === "BF16") bfloat16ToFloat32(new Uint16Array(bytes.buffer), values);
    else dequantizeQ8(bytes, values);
    return values;
  }

  close(): void {
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #read(target: Uint8Array, position: number): void {
    for (let done = 0; done < target.length; ) {
      const count = readSync(
        this.#fd,
        target,
        done,
        Math.min(target.length - done, 1 << 30),
        position + done,
      );
      if (count === 0) throw malformed(this.#shownAs, "shrank while it was read");
      done += count;
    }
  }
}

/** Blocks of one float16 scale and 32 signed bytes. */
function dequantizeQ8(bytes: Uint8Array<ArrayBuffer>, values: Float32Array): void {
  const scale = new Float32Array(1);
  for (let block = 0; block < values.length / 32; block++) {
    const at = block * 34;
    float16ToFloat32(Uint16Array.of(bytes[at]! | (bytes[at + 1]! << 8)), scale);
    const quants = new Int8Array(bytes.buffer, at + 2, 32);
    for (let i = 0; i < 32; i++) values[block * 32 + i] = quants[i]! * scale[0]!;
  }
}
