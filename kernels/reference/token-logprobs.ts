// What training differentiates, by the slow forward pass: finite differences of it are the twin of kernels/training.

import type { DecodedAdapter } from "../adapter.ts";
import { type ReferenceModel, referenceForward } from "./forward.ts";

/** @returns of each token but the first, its log-probability given those before it. [tokens - 1] */
export function referenceTokenLogprobs(
  model: ReferenceModel,
  tokenIds: readonly number[],
  adapter: DecodedAdapter | null,
): number[] {
  const logits = referenceForward(model, tokenIds, adapter);
  return tokenIds.slice(1).map((tokenId, at) => {
    const row = logits[at]!;
    const most = Math.max(...row);
    return row[tokenId]! - most - Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - most), 0));
  });
}
