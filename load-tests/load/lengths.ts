// How many tokens prompts and answers have. The default has the shape of ShareGPT conversations, with parameters
// of our own: log-normal, a long tail, prompts more spread than answers.

import type { Random } from "./random.ts";

/** Log-normal, cut to [min, max]; a sigma of 0 gives the median every time. */
export type Lengths = {
  readonly medianTokens: number;
  readonly sigma: number; // of the logarithm
  readonly minTokens: number;
  readonly maxTokens: number;
};

/** Means before cutting: 90 e^(1.2^2/2) = 185 and 130 e^(0.9^2/2) = 195 tokens. */
export const conversationLengths = {
  prompt: { medianTokens: 90, sigma: 1.2, minTokens: 4, maxTokens: 1024 },
  output: { medianTokens: 130, sigma: 0.9, minTokens: 1, maxTokens: 1024 },
} as const satisfies Record<string, Lengths>;

export function fixedLength(tokens: number): Lengths {
  return { medianTokens: tokens, sigma: 0, minTokens: tokens, maxTokens: tokens };
}

export function drawLength({ medianTokens, sigma, minTokens, maxTokens }: Lengths, random: Random): number {
  const tokens = Math.round(medianTokens * Math.exp(sigma * random.normal()));
  return Math.min(maxTokens, Math.max(minTokens, tokens));
}
