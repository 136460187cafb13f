// A row on its way to another arena, copied piece by piece over several steps while the old place is still read
// and appended to, so that no step waits for the whole copy.

import type { KvRow } from "./kv-arena.ts";

export class KvMove {
  readonly from: KvRow;
  readonly to: KvRow;
  readonly #copied: number[] = []; // tokens, by piece
  readonly #pieces: number;

  constructor(from: KvRow, to: KvRow, pieces: number) {
    this.from = from;
    this.to = to;
    this.#pieces = pieces;
  }

  get isCopied(): boolean {
    return this.#copied.length === this.#pieces;
  }

  /**
   * Copies further pieces, at least one.
   * @returns tokens times pieces that were copied
   */
  advance(limit: number): number {
    let copied = 0;
    const { length } = this.from;
    while (!this.isCopied && (copied === 0 || copied + length <= limit)) {
      this.from.arena.copyPiece(this.from, this.#copied.length, this.to, 0, length);
      this.#copied.push(length);
      copied += Math.max(1, length);
    }
    return copied;
  }

  /** Copies what was appended meanwhile: `to` now holds what `from` holds. */
  finish(): void {
    for (const [piece, first] of this.#copied.entries()) {
      this.from.arena.copyPiece(this.from, piece, this.to, first, this.from.length);
    }
  }
}
