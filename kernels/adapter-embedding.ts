// An adapter's change of the token embeddings, added to hidden states that the base's table has filled.

import type { EmbeddingModule } from "./adapter.ts";

/** hidden[i] += a[tokenIds[i]] b, where hidden is [tokens, hiddenSize]. */
export function addEmbedding(
  { rank, a, b }: EmbeddingModule,
  tokenIds: readonly number[],
  hidden: Float32Array,
): void {
  const width = b.length / rank;
  for (const [index, token] of tokenIds.entries()) {
    const row = hidden.subarray(index * width, (index + 1) * width);
    for (let j = 0; j < rank; j++) {
      const weight = a[token * rank + j]!;
      for (let i = 0; i < width; i++) row[i] = row[i]! + weight * b[j * width + i]!;
    }
  }
}
