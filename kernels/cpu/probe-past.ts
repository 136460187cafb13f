// Keys and values that the later tokens of a probe still look at: of the probe's own rows, beside the arenas of whoever
// is served.

import { type KvShape, pieceCount } from "./kv-arena.ts";

export class ProbePast {
  readonly #shape: KvShape;
  readonly #rows: number;
  #pieces: Float32Array[]; // keys and values of each layer in turn, [rows, kvHeads, tokens, headDim]
  tokens = 0; // of each row

  constructor(shape: KvShape, rows: number) {
    this.#shape = shape;
    this.#rows = rows;
    this.#pieces = Array.from({ length: pieceCount(shape) }, () => new Float32Array(0));
  }

  get pieces(): readonly Float32Array[] {
    return this.#pieces;
  }

  /**
   * Appends what a run returned, and keeps the last `kept` tokens of each row.
   * @param added [layers * 2 * rows, kvHeads, tokens, headDim]
   */
  append(added: Float32Array, kept: number): void {
    const { kvHeads, headDim } = this.#shape;
    const rowHeads = this.#rows * kvHeads;
    const blocks = this.#pieces.length * rowHeads;
    const newTokens = added.length / (blocks * headDim);
    const fromPast = Math.max(0, kept - newTokens);
    const fromAdded = kept - fromPast;
    this.#pieces = this.#pieces.map((past, piece) => {
      const joined = new Float32Array(rowHeads * kept * headDim);
      for (let head = 0; head < rowHeads; head++) {
        const pastEnd = (head + 1) * this.tokens * headDim;
        const addedEnd = (piece * rowHeads + head + 1) * newTokens * headDim;
        const to = head * kept * headDim;
        joined.set(past.subarray(pastEnd - fromPast * headDim, pastEnd), to);
        joined.set(added.subarray(addedEnd - fromAdded * headDim, addedEnd), to + fromPast * headDim);
      }
      return joined;
    });
    this.tokens = kept;
  }
}
