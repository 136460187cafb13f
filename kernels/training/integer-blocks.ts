// 8-bit codes of a matrix in blocks, each with the scale that its largest value needs: for products in training, where
// all matrices are coded when they are first needed. The base that serves has better codes, found in more time
// (kernels/prepare/quantize-blocks.ts), in the same layout.

import { blockSize, blocksPerRow } from "../prepare/quantize-blocks.ts";
import type { IntegerMatrix } from "./integer-graph.ts";

type Shape = { readonly rows: number; readonly columns: number };

const zeroCode = 128;
const largestLevel = 127;
/** Columns that are turned together, so that what is read and what is written stays in the cache. */
const tileColumns = 64;

/** @param weights [rows, columns] */
export function codeRows(weights: Float32Array, { rows, columns }: Shape): IntegerMatrix {
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
  return { rows, columns, packed, scales, bits: 8 };
}

/**
 * The same of the transposed matrix, [columns, rows].
 * @param weights [rows, columns]
 */
export function codeColumns(weights: Float32Array, { rows, columns }: Shape): IntegerMatrix {
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
  return { rows: columns, columns: rows, packed, scales, bits: 8 };
}

/** Zero where all values are. */
function inverseScale(largest: number): number {
  return largest === 0 ? 0 : largestLevel / largest;
}
