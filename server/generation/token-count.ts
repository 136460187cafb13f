// Counts the generated tokens of all choices of a request while their pieces pass, and those of its prompts that came
// from the prefix cache.

import type { ChoicePiece, EnginePiece } from "./choice.ts";

export class TokenCount {
  /** Of each prompt once, whatever its further choices found: what `prompt_tokens` counts, too. */
  readonly cachedPrompt = { total: 0 };
  readonly #choicesPerPrompt: number;
  readonly #byChoice = new Map<number, number>();
  #total = 0;

  constructor(choicesPerPrompt: number) {
    this.#choicesPerPrompt = choicesPerPrompt;
  }

  get total(): number {
    return this.#total;
  }

  async *watch(
    pieces: AsyncIterable<readonly [number, EnginePiece]>,
  ): AsyncGenerator<readonly [number, ChoicePiece]> {
    for await (const [index, piece] of pieces) {
      if (piece.type === "cached") {
        if (index % this.#choicesPerPrompt === 0) this.cachedPrompt.total += piece.tokens;
        continue;
      }
      const before = this.#byChoice.get(index) ?? 0;
      // The finished piece knows the exact number: the token that ended it has no piece of its own.
      const now = piece.type === "finished" ? piece.tokens : piece.type === "token" ? before + 1 : before;
      this.#byChoice.set(index, now);
      this.#total += now - before;
      yield [index, piece];
    }
  }
}
