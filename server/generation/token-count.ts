// Counts the generated tokens of all choices of a request while their pieces pass.

import type { ChoicePiece } from "./choice.ts";

export class TokenCount {
  readonly #byChoice = new Map<number, number>();
  #total = 0;

  get total(): number {
    return this.#total;
  }

  async *watch(
    pieces: AsyncIterable<readonly [number, ChoicePiece]>,
  ): AsyncGenerator<readonly [number, ChoicePiece]> {
    for await (const [index, piece] of pieces) {
      const before = this.#byChoice.get(index) ?? 0;
      // The finished piece knows the exact number: the token that ended it has no piece of its own.
      const now = piece.type === "finished" ? piece.tokens : piece.type === "token" ? before + 1 : before;
      this.#byChoice.set(index, now);
      this.#total += now - before;
      yield [index, piece];
    }
  }
}
