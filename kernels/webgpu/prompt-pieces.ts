// A chunk of a prompt as several runs, where one would make the device hold more at once than it may.

import type { Logits } from "../model-runner.ts";

export type PromptPiece = {
  readonly ids: readonly number[];
  readonly wanted: readonly number[]; // tokens of the piece whose logits are wanted
};

/** @param mostTokens of a piece */
export function promptPieces({ ids, wanted }: PromptPiece, mostTokens: number): PromptPiece[] {
  return Array.from({ length: Math.ceil(ids.length / mostTokens) }, (_, index) => {
    const first = index * mostTokens;
    const end = Math.min(ids.length, first + mostTokens);
    return {
      ids: ids.slice(first, end),
      wanted: wanted.filter((token) => token >= first && token < end).map((token) => token - first),
    };
  });
}

/** @param parts one with logits as it is; of several every token's, whole */
export function joinLogits(parts: readonly Logits[]): Logits {
  const filled = parts.filter(({ count }) => count > 0);
  if (filled.length < 2) return filled[0] ?? parts[0]!;
  const { vocabSize } = filled[0]!;
  const count = filled.reduce((sum, part) => sum + part.count, 0);
  const data = new Float32Array(count * vocabSize);
  let at = 0;
  for (const part of filled) {
    data.set(part.data, at);
    at += part.data.length;
  }
  return { count, vocabSize, data };
}
