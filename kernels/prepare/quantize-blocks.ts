// Weight-only quantization in the layout of ONNX Runtime's MatMulNBits: per row, blocks of consecutive columns,
// each with one float32 scale and an implied zero point at the middle of the range. No calibration data.

export type QuantizedBits = 4 | 8;

/** Columns per scale: the more, the faster the products, and with such scales hardly less exact (docs/quantization.md). */
export const blockSize = 128;

/**
 * Which level, as a share of the range's lower or upper end, the block's extreme value is put at. Beyond 1 it is
 * clipped, which leaves finer steps to all others.
 */
const extremePlaces = { lower: [0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.3], upper: [0.9, 1, 1.1, 1.2] } as const;
const extremeLevels = { 4: levelsOf(8), 8: levelsOf(128) } as const satisfies Record<QuantizedBits, number[]>;

function levelsOf(half: number): number[] {
  const { lower, upper } = extremePlaces;
  return [...lower.map((place) => -half * place), ...upper.map((place) => (half - 1) * place)];
}

export function blocksPerRow(columns: number): number {
  return Math.ceil(columns / blockSize);
}

export function packedRowBytes(columns: number, bits: QuantizedBits): number {
  return (blocksPerRow(columns) * blockSize * bits) / 8;
}

/**
 * Quantizes rows of a matrix.
 * @param weights [rows, columns]
 * @param packed [rows, blocks, blockSize * bits / 8], low nibble first; values are q + zero point
 * @param scales [rows, blocks]
 */
export function quantizeRows(
  weights: Float32Array,
  columns: number,
  bits: QuantizedBits,
  out: { readonly packed: Uint8Array; readonly scales: Float32Array },
): void {
  const blocks = blocksPerRow(columns);
  const rows = weights.length / columns;
  const block = new Float32Array(blockSize);
  const levels = new Uint8Array(blockSize);
  const best = new Uint8Array(blockSize);
  const bytesPerBlock = (blockSize * bits) / 8;
  for (let row = 0; row < rows; row++) {
    for (let index = 0; index < blocks; index++) {
      const first = row * columns + index * blockSize;
      const width = Math.min(blockSize, columns - index * blockSize);
      for (let i = 0; i < blockSize; i++) block[i] = i < width ? weights[first + i]! : 0;
      out.scales[row * blocks + index] = quantizeBlock(block, bits, levels, best);
      pack(best, bits, out.packed, (row * blocks + index) * bytesPerBlock);
    }
  }
}

/**
 * Tries the extreme value at several places of the range, refits the scale by least squares, keeps the best one.
 * @returns the scale; `best` receives the levels, zero point included
 */
function quantizeBlock(
  block: Float32Array,
  bits: QuantizedBits,
  levels: Uint8Array,
  best: Uint8Array,
): number {
  const half = 1 << (bits - 1);
  let extreme = 0;
  for (let i = 0; i < blockSize; i++) if (Math.abs(block[i]!) > Math.abs(extreme)) extreme = block[i]!;
  if (extreme === 0) {
    best.fill(half);
    return 0;
  }
  let bestScale = 0;
  let bestGain = -1;
  for (const end of extremeLevels[bits]) {
    const inverse = end / extreme;
    let dot = 0; // sum of w q
    let norm = 0; // sum of q q
    for (let i = 0; i < blockSize; i++) {
      const level = Math.max(-half, Math.min(half - 1, Math.round(block[i]! * inverse)));
      levels[i] = level + half;
      dot += block[i]! * level;
      norm += level * level;
    }
    // With the scale dot / norm the squared error is sum of w w - dot dot / norm: the larger gain wins.
    const gain = (dot * dot) / norm;
    if (gain > bestGain) {
      bestGain = gain;
      bestScale = dot / norm;
      best.set(levels);
    }
  }
  return bestScale;
}

function pack(levels: Uint8Array, bits: QuantizedBits, packed: Uint8Array, offset: number): void {
  if (bits === 8) {
    packed.set(levels, offset);
    return;
  }
  for (let i = 0; i < blockSize; i += 2) packed[offset + i / 2] = levels[i]! | (levels[i + 1]! << 4);
}
