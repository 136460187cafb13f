// The distribution that kernels/sampling draws from, by sorting everything and in the order of vLLM's steps:
// bias, bans, penalties, temperature, min_p, top_k, top_p.

import type { SamplerOptions } from "../sampling/sampler.ts";

export type History = {
  readonly prompt: readonly number[];
  readonly drawn: readonly number[];
  readonly banned: readonly number[];
};

/** @returns probabilities [vocab]; the temperature must not be 0 */
export function samplingDistribution(
  logits: ArrayLike<number>,
  options: SamplerOptions,
  history: History = { prompt: [], drawn: [], banned: [] },
): number[] {
  const adjusted = Array.from(logits, (logit, token) => adjust(logit, token, options, history));
  let kept = softmax(adjusted.map((logit) => logit / options.temperature));
  const most = Math.max(...kept);
  kept = normalise(kept.map((p) => (p >= options.minP * most ? p : 0)));
  const order = kept.map((_, token) => token).sort((a, b) => kept[b]! - kept[a]! || a - b);
  if (options.topK > 0) {
    const top = new Set(order.slice(0, options.topK));
    kept = normalise(kept.map((p, token) => (top.has(token) ? p : 0)));
  }
  if (options.topP < 1) {
    const nucleus = new Set<number>();
    let sum = 0;
    for (const token of order) {
      if (sum >= options.topP) break;
      nucleus.add(token);
      sum += kept[token]!;
    }
    kept = normalise(kept.map((p, token) => (nucleus.has(token) ? p : 0)));
  }
  return kept;
}

function adjust(logit: number, token: number, options: SamplerOptions, history: History): number {
  if (history.banned.includes(token)) return Number.NEGATIVE_INFINITY;
  let value = logit;
  for (const [biased, bias] of options.logitBias) if (biased === token) value += bias;
  const count = history.drawn.filter((drawn) => drawn === token).length;
  if (count > 0 || history.prompt.includes(token)) {
    value = value > 0 ? value / options.repetitionPenalty : value * options.repetitionPenalty;
  }
  return value - (count > 0 ? options.presencePenalty : 0) - options.frequencyPenalty * count;
}

function softmax(logits: readonly number[]): number[] {
  const max = Math.max(...logits);
  return normalise(logits.map((logit) => Math.exp(logit - max)));
}

function normalise(weights: readonly number[]): number[] {
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}
