// The contract of an objective: a loss of the log-probabilities of tokens. Whatever the vocabulary, the gradient by a
// token's logits is its slope times (one at the token - softmax), which is the kernel's business.

export type ScoredSequence = {
  readonly weights: readonly number[]; // [scored], of the tokens
  readonly logprobs: ArrayLike<number>; // [scored]
  readonly reference: ArrayLike<number> | null; // [scored], of the base without the adapter
};

/** Sums over the sequences: a step divides by the weight of all that it has accumulated. */
export type Evaluation = {
  readonly loss: number;
  readonly weight: number;
  readonly slopes: Float64Array; // [scored of all sequences], of the loss by each log-probability
  readonly metrics: Readonly<Record<string, number>>; // sums, too
};

export interface Objective {
  readonly needsReference: boolean;
  readonly wantsHits: boolean; // whether the likeliest token is to be the scored one
  /** Sequences that belong together, and follow each other: 1, or 2 where they are chosen and rejected. */
  readonly sequencesPerExample: 1 | 2;
  evaluate(sequences: readonly ScoredSequence[]): Evaluation;
}

export function sumOf(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum;
}
