// What examples come to: sums over them, and the means that are told of them.

import type { Measured } from "./job.ts";

/** Sums over examples; `measuredOf` makes means of them. */
export type Totals = {
  readonly loss: number;
  readonly weight: number;
  readonly hits: number | null; // the weight of tokens than which none was likelier; null = of no interest
  readonly examples: number;
  readonly tokens: number;
  readonly metrics: Readonly<Record<string, number>>;
};

export function addTotals(one: Totals | null, other: Totals): Totals {
  if (one === null) return other;
  return {
    loss: one.loss + other.loss,
    weight: one.weight + other.weight,
    hits: one.hits === null ? null : one.hits + other.hits!,
    examples: one.examples + other.examples,
    tokens: one.tokens + other.tokens,
    metrics: Object.fromEntries(
      Object.entries(one.metrics).map(([name, value]) => [name, value + other.metrics[name]!]),
    ),
  };
}

export function measuredOf({ loss, weight, hits, examples, metrics }: Totals): Measured {
  const means = Object.fromEntries(Object.entries(metrics).map(([name, sum]) => [name, sum / examples]));
  const accuracy = hits === null ? {} : { meanTokenAccuracy: hits / weight };
  return { loss: loss / weight, metrics: { ...accuracy, ...means } };
}

export function noExamples(): RangeError {
  return new RangeError("there are no examples to measure");
}
