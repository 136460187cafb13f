// Seeded random weights, fast enough to write a billion: what matters is that they look normal and come out the
// same for the same seed, not that they pass statistical tests.

import { float32ToBfloat16 } from "../kernels/checkpoint/float16.ts";
import { type TensorSource, tensorOf } from "../kernels/checkpoint/write-safetensors.ts";

const pieceValues = 1 << 20;
/** Standard deviation of the sum of four uniform bytes, which is close to normal (Irwin-Hall). */
const byteSumDeviation = Math.sqrt((4 * (256 ** 2 - 1)) / 12);

/** Tensors that all derive from one seed, and each from its own name. */
export class RandomTensors {
  readonly #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** A bfloat16 tensor of N(0, deviation²). */
  normal(name: string, shape: readonly number[], deviation = 0.02): TensorSource {
    const count = shape.reduce((product, size) => product * size, 1);
    const pieces = () => normalPieces(count, deviation, hash(`${this.#seed} ${name}`));
    return { name, dtype: "BF16", shape, pieces };
  }
}

/** A bfloat16 vector that holds one value throughout. */
export function constantTensor(name: string, size: number, value: number): TensorSource {
  const words = new Uint16Array(size);
  float32ToBfloat16(new Float32Array(size).fill(value), words);
  return tensorOf(name, [size], words);
}

/** The pieces share one buffer: use each before taking the next. */
function* normalPieces(count: number, deviation: number, seed: number): Generator<Uint16Array> {
  const words = byteSumWords(deviation);
  const buffer = new Uint16Array(Math.min(count, pieceValues));
  let state = seed;
  for (let first = 0; first < count; first += buffer.length) {
    const piece = buffer.subarray(0, count - first);
    for (let i = 0; i < piece.length; i++) {
      // xorshift32, Marsaglia 2003
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      piece[i] = words[(state & 255) + ((state >>> 8) & 255) + ((state >>> 16) & 255) + (state >>> 24)]!;
    }
    yield piece;
  }
}

/** The bfloat16 value of each sum of four bytes, scaled to the deviation wanted. */
function byteSumWords(deviation: number): Uint16Array {
  const values = Float32Array.from(
    { length: 1021 },
    (_, sum) => ((sum - 510) * deviation) / byteSumDeviation,
  );
  const words = new Uint16Array(values.length);
  float32ToBfloat16(values, words);
  return words;
}

/** FNV-1a; never 0, from which xorshift does not move. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (const byte of Buffer.from(text)) value = Math.imul(value ^ byte, 0x01000193);
  return value === 0 ? 1 : value;
}
