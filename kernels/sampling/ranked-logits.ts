// One row of logits as a device may tell it: all of them, or as much as drawing the token needs.

/** The most likely tokens, most likely first. */
export type RankedLogits = {
  readonly tokenIds: readonly number[];
  readonly logits: Float32Array; // of these tokens
  readonly logSumExp: number; // of the whole row
};

export type TokenLogits = Float32Array | RankedLogits; // [vocab], or the most likely ones

/** More are not asked for: the whole row is as good. */
export const mostCandidates = 256;
