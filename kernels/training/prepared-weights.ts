// Reads a base's prepared weights as float32, one layer or one slice of the output head at a time. What is read is what
// serves. What is read first stays as long as there is memory for it; other layers share the memory of one, as do slices
// of the head.

import { closeSync, openSync, read, readSync } from "node:fs";
import { promisify } from "node:util";
import { float16ToFloat32 } from "../checkpoint/float16.ts";
import {
  encodingBits,
  isQuantized,
  type PreparedLayer,
  type PreparedLayout,
  type PreparedMatrix,
  type PreparedVector,
} from "../prepare/layout.ts";
import { blocksPerRow, packedRowBytes } from "../prepare/quantize-blocks.ts";
import { dequantizeRows, type QuantizedRows } from "./dequantize-rows.ts";
import type { LayerWeight } from "./layer-names.ts";

const readAsync = promisify(read);

/** Below this a second thread is not worth waking. */
const sharedReadBytes = 2 ** 20;

export type LayerValues = ReadonlyMap<LayerWeight, Float32Array>;

/** Rows of the output head. */
export type HeadSlice = { readonly firstRow: number; readonly rows: Float32Array }; // [rows, hidden]

export class PreparedWeights {
  readonly layout: PreparedLayout;
  readonly finalNorm: Float32Array;
  readonly #file: number;
  #stayingBytes = 0; // that layers and slices of the head may take
  readonly #staying = new Map<number, LayerValues>();
  readonly #shared: Map<LayerWeight, Float32Array>;
  #sharedIndex = -1; // the layer in `#shared`
  readonly #stayingHead = new Map<string, HeadSlice>(); // by rows
  #head: HeadSlice = { firstRow: -1, rows: new Float32Array(0) };
  #packed = new Uint8Array(0);
  #reading: Promise<unknown> = Promise.resolve();

  /** @param widenedBytes for layers, and then slices of the head, that stay widened */
  constructor(layout: PreparedLayout, dataPath: string, widenedBytes: number) {
    this.layout = layout;
    this.#file = openSync(dataPath, "r");
    this.finalNorm = this.vector(layout.finalNorm);
    this.#shared = emptyLayer(layout.layers[0]!);
    this.keepWidened(widenedBytes);
  }

  /** What does not fit any more is let go, the head first. */
  keepWidened(bytes: number): void {
    this.#stayingBytes = bytes;
    if (!this.#hasRoom(0)) this.#stayingHead.clear();
    for (const index of [...this.#staying.keys()].toReversed()) {
      if (!this.#hasRoom(0)) this.#staying.delete(index);
    }
  }

  #hasRoom(bytes: number): boolean {
    const layers = [...this.#staying.values()].reduce((sum, values) => sum + layerBytes(values), 0);
    const head = [...this.#stayingHead.values()].reduce((sum, { rows }) => sum + rows.byteLength, 0);
    return layers + head + bytes <= this.#stayingBytes;
  }

  /** Valid until another layer is asked for, which nobody may before it is there. */
  async layer(index: number): Promise<LayerValues> {
    const staying = this.#staying.get(index);
    if (staying !== undefined) return staying;
    if (this.#hasRoom(layerBytes(this.#shared))) {
      const values = emptyLayer(this.layout.layers[index]!);
      await this.#readLayer(index, values);
      this.#staying.set(index, values);
      return values;
    }
    if (index !== this.#sharedIndex) {
      this.#sharedIndex = -1; // a read that fails leaves no layer there
      await this.#readLayer(index, this.#shared);
      this.#sharedIndex = index;
    }
    return this.#shared;
  }

  /** Valid until other rows of the head are asked for, which nobody may before they are there. */
  async headSlice(firstRow: number, count: number): Promise<HeadSlice> {
    const size = count * this.layout.head.columns;
    const key = `${firstRow} ${size}`;
    const staying = this.#stayingHead.get(key);
    if (staying !== undefined) return staying;
    if (this.#hasRoom(Float32Array.BYTES_PER_ELEMENT * size)) {
      const slice = { firstRow, rows: new Float32Array(size) };
      await this.#readMatrix(this.layout.head, firstRow, slice.rows);
      this.#stayingHead.set(key, slice);
      return slice;
    }
    const { firstRow: known, rows } = this.#head;
    if (known === firstRow && rows.length === size) return this.#head;
    const reused =
      rows.buffer.byteLength < size * 4 ? new Float32Array(size) : new Float32Array(rows.buffer, 0, size);
    this.#head = { firstRow: -1, rows: reused };
    await this.#readMatrix(this.layout.head, firstRow, reused);
    this.#head = { firstRow, rows: reused };
    return this.#head;
  }

  /** Once nothing is being read. */
  async close(): Promise<void> {
    await this.#reading;
    closeSync(this.#file);
  }

  async #readLayer(index: number, values: LayerValues): Promise<void> {
    for (const [name, part] of partsOf(this.layout.layers[index]!)) {
      const out = values.get(name)!;
      if ("length" in part) this.#read(part.data.offset, out);
      else await this.#readMatrix(part, 0, out);
    }
  }

  /** As `readRows`, but two threads copy what is long: it lies in the system's cache, where a read is a copy. */
  async #readMatrix(matrix: PreparedMatrix, firstRow: number, out: Float32Array): Promise<void> {
    if (matrix.encoding !== "float32" || out.byteLength < sharedReadBytes)
      return this.readRows(matrix, firstRow, out);
    const position = matrix.data.offset + firstRow * matrix.columns * 4;
    const middle = out.length >> 1;
    const second = out.subarray(middle);
    const reading = readAsync(this.#file, second, 0, second.byteLength, position + 4 * middle);
    this.#reading = reading.catch(() => {}); // whoever asked is told
    this.#read(position, out.subarray(0, middle));
    const { bytesRead } = await reading;
    const whole = bytesRead >> 2; // the rest, where the system gave less than it was asked for
    if (whole < second.length) this.#read(position + 4 * (middle + whole), second.subarray(whole));
  }

  vector({ length, data }: PreparedVector): Float32Array {
    const values = new Float32Array(length);
    this.#read(data.offset, values);
    return values;
  }

  readRows(matrix: PreparedMatrix, firstRow: number, out: Float32Array): void {
    const { columns, data, encoding } = matrix;
    if (encoding === "float16") {
      const halves = new Uint16Array(out.length);
      this.#read(data.offset + firstRow * columns * 2, halves);
      return float16ToFloat32(halves, out);
    }
    const quantized = this.quantizedRows(matrix, firstRow, out.length / columns);
    if (quantized === null) this.#read(data.offset + firstRow * columns * 4, out);
    else dequantizeRows(quantized, columns, out);
  }

  /** Rows as they are stored, valid until others are asked for; null where they are not quantized. */
  quantizedRows(matrix: PreparedMatrix, firstRow: number, rows: number): QuantizedRows | null {
    const { columns, encoding, data, scales: scaleRange } = matrix;
    if (!isQuantized(encoding)) return null;
    const bits = encodingBits[encoding];
    const rowBytes = packedRowBytes(columns, bits);
    const blocks = blocksPerRow(columns);
    if (this.#packed.length < rows * rowBytes) this.#packed = new Uint8Array(rows * rowBytes);
    const packed = this.#packed.subarray(0, rows * rowBytes);
    const scales = new Float32Array(rows * blocks);
    this.#read(data.offset + firstRow * rowBytes, packed);
    this.#read(scaleRange.offset + firstRow * blocks * 4, scales);
    return { packed, scales, bits };
  }

  #read(position: number, out: Float32Array | Uint16Array | Uint8Array): void {
    const bytes = new Uint8Array(out.buffer, out.byteOffset, out.byteLength);
    let done = 0;
    while (done < bytes.byteLength) {
      const count = readSync(this.#file, bytes, done, bytes.byteLength - done, position + done);
      if (count === 0) throw new RangeError(`the prepared weights end at byte ${position + done}`);
      done += count;
    }
  }
}

function layerBytes(values: LayerValues): number {
  return [...values.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
}

function emptyLayer(layer: PreparedLayer): Map<LayerWeight, Float32Array> {
  return new Map(
    partsOf(layer).map(([name, part]) => {
      const size = "length" in part ? part.length : part.rows * part.columns;
      return [name, new Float32Array(size)];
    }),
  );
}

function partsOf(layer: PreparedLayer): [LayerWeight, PreparedMatrix | PreparedVector][] {
  return Object.entries(layer).filter(([, part]) => part !== null) as [
    LayerWeight,
    PreparedMatrix | PreparedVector,
  ][];
}
