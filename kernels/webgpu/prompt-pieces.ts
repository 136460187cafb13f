// A chunk of a prompt as several runs, where one would make the device hold more at once than it may.

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
