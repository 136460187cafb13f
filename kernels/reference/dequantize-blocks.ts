// The inverse of kernels/prepare/quantize-blocks.ts, value by value.

import { blockSize, blocksPerRow, type QuantizedBits } from "../prepare/quantize-blocks.ts";

/**
 * @param packed [rows, blocks, blockSize * bits / 8], low nibble first
 * @param scales [rows, blocks]
 * @returns [rows, columns]
 */
export function dequantizeRows(
  quantized: { readonly packed: Uint8Array; readonly scales: Float32Array },
  columns: number,
  bits: QuantizedBits,
): Float64Array {
  const blocks = blocksPerRow(columns);
  const rows = quantized.scales.length / blocks;
  const zeroPoint = 2 ** (bits - 1);
  return Float64Array.from({ length: rows * columns }, (_, index) => {
    const row = Math.floor(index / columns);
    const column = index % columns;
    const place = row * blocks * blockSize + column; // levels of a row, its padding included, lie in order
    const byte = quantized.packed[Math.floor((place * bits) / 8)]!;
    const level = bits === 8 ? byte : place % 2 === 0 ? byte & 15 : byte >> 4;
    return (level - zeroPoint) * quantized.scales[row * blocks + Math.floor(column / blockSize)]!;
  });
}
