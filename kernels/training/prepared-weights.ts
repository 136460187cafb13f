// Reads a base's prepared weights as float32, one layer or one slice of the output head at a time, into memory that
// is used again: training holds one layer widened, never the whole base. What is read is what serves.

import { closeSync, openSync, readSync } from "node:fs";
import {
  encodingBits,
  type PreparedLayer,
  type PreparedLayout,
  type PreparedMatrix,
  type PreparedVector,
} from "../prepare/layout.ts";
import { blocksPerRow, packedRowBytes } from "../prepare/quantize-blocks.ts";
import { dequantizeRows } from "./dequantize-rows.ts";
import type { LayerWeight } from "./layer-graph.ts";

export type LayerValues = ReadonlyMap<LayerWeight, Float32Array>;

/** Rows of the output head. */
export type HeadSlice = { readonly firstRow: number; readonly rows: Float32Array }; // [rows, hidden]

export class PreparedWeights {
  readonly layout: PreparedLayout;
  readonly finalNorm: Float32Array;
  readonly #file: number;
  readonly #layer = new Map<LayerWeight, Float32Array>();
  #layerIndex = -1;
  #head: HeadSlice = { firstRow: -1, rows: new Float32Array(0) };
  #packed = new Uint8Array(0);

  constructor(layout: PreparedLayout, dataPath: string) {
    this.layout = layout;
    this.#file = openSync(dataPath, "r");
    this.finalNorm = new Float32Array(layout.finalNorm.length);
    this.#readVector(layout.finalNorm, this.finalNorm);
  }

  /** Valid until another layer is asked for. */
  layer(index: number): LayerValues {
    if (index === this.#layerIndex) return this.#layer;
    this.#layerIndex = -1;
    for (const [name, part] of parts(this.layout.layers[index]!)) {
      const size = "length" in part ? part.length : part.rows * part.columns;
      let values = this.#layer.get(name);
      if (values === undefined) {
        values = new Float32Array(size);
        this.#layer.set(name, values);
      }
      if ("length" in part) this.#readVector(part, values);
      else this.#readRows(part, 0, values);
    }
    this.#layerIndex = index;
    return this.#layer;
  }

  /** Valid until other rows of the head are asked for. */
  headSlice(firstRow: number, count: number): HeadSlice {
    const size = count * this.layout.head.columns;
    const { firstRow: known, rows } = this.#head;
    if (known === firstRow && rows.length === size) return this.#head;
    const reused =
      rows.buffer.byteLength < size * 4 ? new Float32Array(size) : new Float32Array(rows.buffer, 0, size);
    this.#readRows(this.layout.head, firstRow, reused);
    this.#head = { firstRow, rows: reused };
    return this.#head;
  }

  close(): void {
    closeSync(this.#file);
  }

  #readVector(vector: PreparedVector, out: Float32Array): void {
    this.#read(vector.data.offset, out);
  }

  #readRows(matrix: PreparedMatrix, firstRow: number, out: Float32Array): void {
    const { columns, encoding, data, scales: scaleRange } = matrix;
    if (encoding === "float32") {
      this.#read(data.offset + firstRow * columns * 4, out);
      return;
    }
    const bits = encodingBits[encoding];
    const rows = out.length / columns;
    const rowBytes = packedRowBytes(columns, bits);
    const blocks = blocksPerRow(columns);
    if (this.#packed.length < rows * rowBytes) this.#packed = new Uint8Array(rows * rowBytes);
    const packed = this.#packed.subarray(0, rows * rowBytes);
    const scales = new Float32Array(rows * blocks);
    this.#read(data.offset + firstRow * rowBytes, packed);
    this.#read(scaleRange.offset + firstRow * blocks * 4, scales);
    dequantizeRows({ packed, scales, bits }, columns, out);
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

function parts(layer: PreparedLayer): [LayerWeight, PreparedMatrix | PreparedVector][] {
  return Object.entries(layer).filter(([, part]) => part !== null) as [
    LayerWeight,
    PreparedMatrix | PreparedVector,
  ][];
}
