// The inputs that give a run of a quantized base an even number of tokens. The runtime's quantized products take tokens
// two by two and round a last odd one otherwise, so a token beside it keeps its bits whoever shares the batch
// (docs/quantization.md). It costs next to nothing: one token's product reads as many weights as two's.

import type { BaseModel } from "../base-model.ts";
import { inputNames, pairsTokens } from "../forward-graph.ts";
import { type Feeds, floatTensor, indexTensor } from "../session.ts";

export class TokenPairs {
  readonly #isPaired: boolean;
  readonly #attentionWidth: number;
  readonly #hiddenSize: number;

  constructor({ config, layout }: Pick<BaseModel, "config" | "layout">) {
    this.#isPaired = pairsTokens(layout);
    this.#attentionWidth = config.heads * config.headDim;
    this.#hiddenSize = config.hiddenSize;
  }

  /** How many tokens a run of so many has. */
  count(tokens: number): number {
    return this.#isPaired ? tokens + (tokens % 2) : tokens;
  }

  /** Room for the hidden states of a run of so many tokens; what is beside them is zero. */
  hidden(tokens: number): Float32Array {
    return new Float32Array(this.count(tokens) * this.#hiddenSize);
  }

  /** What tells the graph how many of a run's tokens attend. */
  shapes(tokens: number): Feeds {
    if (!this.#isPaired) return {};
    const beside = this.count(tokens) - tokens;
    const padding = new Float32Array(beside * this.#attentionWidth);
    return {
      [inputNames.tokenCount]: indexTensor([tokens], [1]),
      [inputNames.attendedBeside]: floatTensor(padding, [beside, this.#attentionWidth]),
    };
  }

  hiddenFeed(hidden: Float32Array): Feeds {
    const dims = [hidden.length / this.#hiddenSize, this.#hiddenSize];
    return { [inputNames.hidden]: floatTensor(hidden, dims) };
  }

  /** Which tokens have logits; the head, too, sees an even number, and the last row of logits may be nobody's. */
  wanted(tokens: readonly number[]): Feeds {
    const paired = this.count(tokens.length) > tokens.length ? [...tokens, tokens.at(-1)!] : tokens;
    return { [inputNames.logitRows]: indexTensor(paired, [paired.length]) };
  }
}
