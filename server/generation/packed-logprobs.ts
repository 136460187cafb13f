// Tokens with their log-probabilities in few bytes: as objects they take seven times as much, which counts where an
// answer is kept until it is whole.

import type { TokenLogprob } from "../../scheduler/protocol.ts";

/** `logprob` is null for a prompt's first token, which nothing precedes. */
export type ScoredToken = {
  readonly tokenId: number;
  readonly logprob: TokenLogprob | null;
  readonly textOffset: number;
};

const headNumbers = 4; // token id, text offset, log-probability, how many likely ones follow (-1 = no logprob)
const mostTokensPerBlock = 64;

/** @param top log-probabilities beside the token's own */
export function packedTokenBytes(top: number): number {
  return (headNumbers + 2 * top) * Float64Array.BYTES_PER_ELEMENT;
}

export class PackedLogprobs {
  readonly #stride: number;
  readonly #tokensPerBlock: number;
  readonly #blocks: Float64Array[] = []; // [tokensPerBlock, stride]: nothing is copied to grow
  #length = 0;

  constructor(top: number, mostTokens: number) {
    this.#stride = headNumbers + 2 * top;
    this.#tokensPerBlock = Math.min(mostTokens, mostTokensPerBlock);
  }

  get length(): number {
    return this.#length;
  }

  push({ tokenId, logprob, textOffset }: ScoredToken): void {
    const at = this.#length++ % this.#tokensPerBlock;
    if (at === 0) this.#blocks.push(new Float64Array(this.#tokensPerBlock * this.#stride));
    const likely = logprob?.top.flat() ?? [];
    const head = [tokenId, textOffset, logprob?.logprob ?? 0, logprob ? likely.length / 2 : -1];
    this.#blocks.at(-1)!.set([...head, ...likely], at * this.#stride);
  }

  *from(first: number): Generator<ScoredToken> {
    for (let index = first; index < this.#length; index++) yield this.#at(index);
  }

  #at(index: number): ScoredToken {
    const start = (index % this.#tokensPerBlock) * this.#stride;
    const numbers = this.#blocks[Math.floor(index / this.#tokensPerBlock)]!.subarray(
      start,
      start + this.#stride,
    );
    const [tokenId, textOffset, logprob, likely] = numbers as unknown as [number, number, number, number];
    if (likely < 0) return { tokenId, textOffset, logprob: null };
    const top = Array.from({ length: likely }, (_, at) => {
      const pair = headNumbers + 2 * at;
      return [numbers[pair]!, numbers[pair + 1]!] as const;
    });
    return { tokenId, textOffset, logprob: { tokenId, logprob, top } };
  }
}
