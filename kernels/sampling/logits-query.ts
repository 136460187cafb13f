// What the next draw needs to know of a row of logits, for devices that tell less than all of it, and what they tell.

/** Before anything is drawn, a token's logit becomes: plus bias; by the repetition penalty; plus addend. */
export type LogitChange = {
  readonly tokenId: number;
  readonly bias: number;
  readonly repetition: number; // positive logits are divided by it, others multiplied
  readonly addend: number;
};

export type LogitsQuery = {
  readonly changes: readonly LogitChange[]; // each token at most once
  readonly temperature: number; // of weights: exp((logit - largest) / temperature)
  readonly reported: number | null; // of the row without changes: its normaliser, and so many of the most likely
  readonly draw: RankedDraw | BlockDraw | ScoredToken;
};

/** The most likely tokens: as many as the first count says or, where these do not suffice, the next one. */
export type RankedDraw = {
  readonly kind: "ranked";
  readonly counts: readonly number[];
  readonly suffices: (known: KnownLogits) => boolean;
};

/** The block of neighbouring tokens in which the weights, summed in the vocabulary's order, pass `random` of all. */
export type BlockDraw = { readonly kind: "block"; readonly random: number };

/** Nothing is drawn: a token that is there already is asked about. */
export type ScoredToken = { readonly kind: "scored"; readonly tokenId: number };

export type KnownLogits = {
  readonly tokenIds: readonly number[]; // ranked: most likely first; of a block: ascending; scored: the one
  readonly logits: Float32Array; // of these tokens, changed
  readonly largest: number; // logit of the changed row
  readonly total: number; // of all weights
  readonly before: number; // weights of the tokens before the block
  readonly unchanged: ReadonlyMap<number, number>; // logits of changed tokens, as they were
  readonly report: {
    readonly logSumExp: number;
    readonly tokenIds: readonly number[];
    readonly logits: Float32Array;
  } | null;
};

export type TokenLogits = Float32Array | KnownLogits; // [vocab], or what was asked for

/** More are not asked for: the whole row is as good. */
export const mostCandidates = 256;

/** What `scoreToken` needs to know; null where it needs all logits. */
export function scoreQuery(tokenId: number, reported: number): LogitsQuery | null {
  if (reported > mostCandidates) return null;
  return { changes: [], temperature: 1, reported, draw: { kind: "scored", tokenId } };
}

/** Where nobody reads what is drawn. */
export const leastQuery: LogitsQuery = {
  changes: [],
  temperature: 1,
  reported: null,
  draw: { kind: "ranked", counts: [1], suffices: () => true },
};
