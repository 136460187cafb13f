// How far apart two versions' outputs are: what the engine measures for the reports of compression.

import type { Engine } from "../scheduler/engine.ts";

export type Comparison = {
  readonly meanKl: number; // nats; KL(a || b) of the next token's distribution, over all tokens
  readonly maxKl: number;
  readonly top1Agreement: number; // share of tokens whose likeliest successor is the same
  readonly tokens: number; // compared
};

export type ModelComparer = {
  /** Both versions must be leased until it resolves; null = the base alone. */
  compare(sides: {
    readonly a: string | null;
    readonly b: string | null;
    readonly prompts: readonly (readonly number[])[]; // token ids
  }): Promise<Comparison>;
};

/** Null where the engine cannot compare. */
export function comparerOf(engine: Engine): ModelComparer | null {
  return "compare" in engine ? (engine as Engine & ModelComparer) : null;
}
