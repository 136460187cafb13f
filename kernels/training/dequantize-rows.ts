// Widens quantized rows of a prepared matrix to float32: the values that serving multiplies with. The slow twin is
// kernels/reference/dequantize-blocks.ts.

import { blockSize, blocksPerRow, type QuantizedBits } from "../prepare/quantize-blocks.ts";

export type QuantizedRows = {
  readonly packed: Uint8Array; // [rows, blocks, blockSize * bits / 8], low nibble first
  readonly scales: Float32Array; // [rows, blocks]
  readonly bits: QuantizedBits;
};

/** @param out [rows, columns] */
export function dequantizeRows(quantized: QuantizedRows, columns: number, out: Float32Array): void {
  const { packed, scales, bits } = quantized;
  const blocksInRow = blocksPerRow(columns);
  const blocks = (out.length / columns) * blocksInRow;
  const blockBytes = (blockSize * bits) / 8;
  const widen = bits === 8 ? widenBytes : widenNibbles;
  for (let block = 0, at = 0; block < blocks; block++) {
    const width = Math.min(blockSize, columns - (block % blocksInRow) * blockSize);
    widen(packed, block * blockBytes, { scale: scales[block]!, out, at, width });
    at += width;
  }
}

type Target = {
  readonly scale: number;
  readonly out: Float32Array;
  readonly at: number;
  readonly width: number;
};

function widenBytes(packed: Uint8Array, from: number, { scale, out, at, width }: Target): void {
  for (let i = 0; i < width; i++) out[at + i] = (packed[from + i]! - 128) * scale;
}

function widenNibbles(packed: Uint8Array, from: number, { scale, out, at, width }: Target): void {
  for (let i = 0; i < width; i += 2) {
    const byte = packed[from + i / 2]!;
    out[at + i] = ((byte & 15) - 8) * scale;
    if (i + 1 < width) out[at + i + 1] = ((byte >> 4) - 8) * scale;
  }
}
