// Reads a base's prepared weights as float32, one layer or one slice of the output head at a time. What is read is what
// serves. As many layers as the memory for it holds stay, and behind them the head; the others share the memory of one.

import { closeSync, openSync, readSync } from "node:fs";
import {
  encodingBits,
  type PreparedLayer,
  type PreparedLayout,
  type PreparedMatrix,
  type PreparedVector,
} from "../prepare/layout.ts";
import { blocksPerRow, packedRowBytes } from "../prepare/quantize-blocks.ts";
import { dequantizeRows, type QuantizedRows } from "./dequantize-rows.ts";
import type { LayerWeight } from "./layer-names.ts";

export type LayerValues = ReadonlyMap<LayerWeight, Float32Array>;

/** Rows of the output head. */
export type HeadSlice = { readonly firstRow: number; readonly rows: Float32Array }; // [rows, hidden]

export class PreparedWeights {
  readonly layout: PreparedLayout;
  readonly finalNorm: Float32Array;
  readonly #file: number;
  #stayingLayers = 0;
  readonly #staying = new Map<number, LayerValues>();
  readonly #shared: Map<LayerWeight, Float32Array>;
  #sharedIndex = -1; // the layer in `#shared`
  #headStays = false;
  readonly #stayingHead = new Map<string, HeadSlice>(); // by rows
  #head: HeadSlice = { firstRow: -1, rows: new Float32Array(0) };
  #packed = new Uint8Array(0);

  /** @param widenedBytes for layers, and then the head, that stay widened */
  constructor(layout: PreparedLayout, dataPath: string, widenedBytes: number) {
    this.layout = layout;
    this.#file = openSync(dataPath, "r");
    this.finalNorm = this.vector(layout.finalNorm);
    this.#shared = emptyLayer(layout.layers[0]!);
    this.keepWidened(widenedBytes);
  }

  /** Layers beyond what fits are let go. */
  keepWidened(bytes: number): void {
    const layerBytes = [...this.#shared.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    this.#stayingLayers = Math.floor(bytes / layerBytes);
    const { layers, head } = this.layout;
    this.#headStays = bytes - layers.length * layerBytes >= 4 * head.rows * head.columns;
    if (!this.#headStays) this.#stayingHead.clear();
    for (const index of this.#staying.keys()) if (index >= this.#stayingLayers) this.#staying.delete(index);
  }

  /** Valid until another layer is asked for. */
  layer(index: number): LayerValues {
    const staying = this.#staying.get(index);
    if (staying !== undefined) return staying;
    if (index < this.#stayingLayers) {
      const values = emptyLayer(this.layout.layers[index]!);
      this.#readLayer(index, values);
      this.#staying.set(index, values);
      return values;
    }
    if (index !== this.#sharedIndex) {
      this.#sharedIndex = -1; // a read that fails leaves no layer there
      this.#readLayer(index, this.#shared);
      this.#sharedIndex = index;
    }
    return this.#shared;
  }

  /** Valid until other rows of the head are asked for. */
  headSlice(firstRow: number, count: number): HeadSlice {
    const size = count * this.layout.head.columns;
    if (this.#headStays) return this.#stayingSlice(firstRow, size);
    const { firstRow: known, rows } = this.#head;
    if (known === firstRow && rows.length === size) return this.#head;
    const reused =
      rows.buffer.byteLength < size * 4 ? new Float32Array(size) : new Float32Array(rows.buffer, 0, size);
    this.#head = { firstRow: -1, rows: reused };
    this.readRows(this.layout.head, firstRow, reused);
    this.#head = { firstRow, rows: reused };
    return this.#head;
  }

  #stayingSlice(firstRow: number, size: number): HeadSlice {
    const key = `${firstRow} ${size}`;
    let slice = this.#stayingHead.get(key);
    if (slice === undefined) {
      slice = { firstRow, rows: new Float32Array(size) };
      this.readRows(this.layout.head, firstRow, slice.rows);
      this.#stayingHead.set(key, slice);
    }
    return slice;
  }

  close(): void {
    closeSync(this.#file);
  }

  #readLayer(index: number, values: LayerValues): void {
    for (const [name, part] of partsOf(this.layout.layers[index]!)) {
      const out = values.get(name)!;
      if ("length" in part) this.#read(part.data.offset, out);
      else this.readRows(part, 0, out);
    }
  }

  vector({ length, data }: PreparedVector): Float32Array {
    const values = new Float32Array(length);
    this.#read(data.offset, values);
    return values;
  }

  readRows(matrix: PreparedMatrix, firstRow: number, out: Float32Array): void {
    const { columns, data } = matrix;
    const quantized = this.quantizedRows(matrix, firstRow, out.length / columns);
    if (quantized === null) this.#read(data.offset + firstRow * columns * 4, out);
    else dequantizeRows(quantized, columns, out);
  }

  /** Rows as they are stored, valid until others are asked for; null where they are not quantized. */
  quantizedRows(matrix: PreparedMatrix, firstRow: number, rows: number): QuantizedRows | null {
    const { columns, encoding, data, scales: scaleRange } = matrix;
    if (encoding === "float32") return null;
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

  #read(position: number, out: Float32Array | Uint8Array): void {
    const bytes = new Uint8Array(out.buffer, out.byteOffset, out.byteLength);
    let done = 0;
    while (done < bytes.byteLength) {
      const count = readSync(this.#file, bytes, done, bytes.byteLength - done, position + done);
      if (count === 0) throw new RangeError(`the prepared weights end at byte ${position + done}`);
      done += count;
    }
  }
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
