// Codes of a matrix in blocks, each with the scale that its largest value needs, and the product with them, which rounds
// what is multiplied in the same blocks. For training all matrices are coded when they are first needed, in 8 bits; the
// base that serves has better codes of the same layout, found in more time (kernels/prepare/quantize-blocks.ts).

import { blockSize, blocksPerRow } from "../prepare/quantize-blocks.ts";
import type { QuantizedRows } from "./dequantize-rows.ts";
import {
  type IntegerCoding,
  type IntegerMatrix,
  inverseScale,
  largestLevel,
  type MatrixShape,
  nanOfRows,
  type ProductGraph,
} from "./integer-coding.ts";

const zeroCode = 128;
/** `MatMulNBits` rounds what it multiplies, too. */
const integerAccuracyLevel = 4;
/** Columns that are turned together, so that what is read and what is written stays in the cache. */
const tileColumns = 64;

export const blockCoding: IntegerCoding = {
  rows: codeRows,
  columns: codeColumns,
  served: (stored, shape) => new BlockMatrix({ ...stored, packed: stored.packed.slice() }, shape),
};

export class BlockMatrix implements IntegerMatrix {
  readonly stored: QuantizedRows;
  readonly #shape: MatrixShape;

  constructor(stored: QuantizedRows, shape: MatrixShape) {
    this.stored = stored;
    this.#shape = shape;
  }

  product(graph: ProductGraph, x: string, name: string, bias: string | null): string {
    const { rows, columns } = this.#shape;
    const { packed, scales, bits } = this.stored;
    const blocks = blocksPerRow(columns);
    const codes = graph.constantTensor(name, "uint8", [rows, blocks, (blockSize * bits) / 8], packed);
    const scale = graph.constantTensor(`${name}.scales`, "float32", [rows * blocks], scales);
    const inputs = bias === null ? [x, codes, scale] : [x, codes, scale, "", "", bias];
    const attributes = {
      K: columns,
      N: rows,
      bits,
      block_size: blockSize,
      accuracy_level: integerAccuracyLevel,
    };
    const [product] = graph.builder.contrib("MatMulNBits", inputs, { attributes });
    return graph.builder.node("Add", [product!, nanOfRows(graph.builder, x)])[0]!;
  }
}

function codeRows(weights: Float32Array, { rows, columns }: MatrixShape): BlockMatrix {
  const blocks = blocksPerRow(columns);
  const packed = new Uint8Array(rows * blocks * blockSize).fill(zeroCode);
  const scales = new Float32Array(rows * blocks);
  for (let block = 0; block < scales.length; block++) {
    const column = (block % blocks) * blockSize;
    const from = Math.floor(block / blocks) * columns + column;
    const width = Math.min(blockSize, columns - column);
    let largest = 0;
    for (let i = 0; i < width; i++) largest = Math.max(largest, Math.abs(weights[from + i]!));
    scales[block] = largest / largestLevel;
    const inverse = inverseScale(largest);
    const at = block * blockSize;
    for (let i = 0; i < width; i++) packed[at + i] = Math.round(weights[from + i]! * inverse) + zeroCode;
  }
  return new BlockMatrix({ packed, scales, bits: 8 }, { rows, columns });
}

function codeColumns(weights: Float32Array, { rows, columns }: MatrixShape): BlockMatrix {
  const blocks = blocksPerRow(rows);
  const packed = new Uint8Array(columns * blocks * blockSize).fill(zeroCode);
  const scales = new Float32Array(columns * blocks);
  const largest = new Float32Array(columns);
  const inverses = new Float64Array(columns); // of the smallest values they are beyond float32
  for (let block = 0; block < blocks; block++) {
    const first = block * blockSize;
    const last = Math.min(rows, first + blockSize);
    largest.fill(0);
    for (let row = first; row < last; row++) {
      for (let i = 0; i < columns; i++) {
        largest[i] = Math.max(largest[i]!, Math.abs(weights[row * columns + i]!));
      }
    }
    for (let i = 0; i < columns; i++) {
      scales[i * blocks + block] = largest[i]! / largestLevel;
      inverses[i] = inverseScale(largest[i]!);
    }
    for (let from = 0; from < columns; from += tileColumns) {
      const to = Math.min(columns, from + tileColumns);
      for (let row = first; row < last; row++) {
        for (let i = from; i < to; i++) {
          const level = Math.round(weights[row * columns + i]! * inverses[i]!);
          packed[(i * blocks + block) * blockSize + row - first] = level + zeroCode;
        }
      }
    }
  }
  return new BlockMatrix({ packed, scales, bits: 8 }, { rows: columns, columns: rows });
}
