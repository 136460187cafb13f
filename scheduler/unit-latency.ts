// What a unit of finetuning takes, learnt while units run: by kind and tokens, with a margin for how far the
// predictions were off. Knows no jobs: units of several share a kind.

import { LatencyModel } from "./latency-model.ts";

export type UnitWork = { readonly kind: string; readonly tokens: number };

const recentRatios = 64;
/**
 * Of these. Were it the worst few, a neighbour of the machine that holds up every thirtieth unit would leave no gap long
 * enough for any: none ran, and nothing better was learnt.
 */
const boundQuantile = 0.9;
const fewRuns = 12; // before these the longest one counts

type Kind = { readonly model: LatencyModel; readonly ratios: number[]; runs: number; longestMs: number };

export class UnitLatency {
  readonly #kinds = new Map<string, Kind>();

  /** Milliseconds within which nine of ten such units end; null before the first of its kind. */
  boundMs({ kind, tokens }: UnitWork): number | null {
    const known = this.#kinds.get(kind);
    if (known === undefined) return null;
    const predictedMs = known.model.predict(featuresOf(tokens));
    if (predictedMs === null || known.ratios.length < fewRuns) return known.longestMs;
    return predictedMs * Math.max(1, quantile(known.ratios, boundQuantile));
  }

  took({ kind, tokens }: UnitWork, ms: number): void {
    const known = this.#kinds.get(kind) ?? this.#add(kind);
    const predictedMs = known.model.predict(featuresOf(tokens));
    if (predictedMs !== null && predictedMs > 0) known.ratios[known.runs++ % recentRatios] = ms / predictedMs;
    known.longestMs = Math.max(known.longestMs, ms);
    known.model.observe(featuresOf(tokens), ms);
  }

  /** The worst kind's median relative error; null before there is any. */
  get error(): number | null {
    const errors = [...this.#kinds.values()].flatMap(({ model }) => model.error ?? []);
    return errors.length === 0 ? null : Math.max(...errors);
  }

  #add(kind: string): Kind {
    const known = { model: new LatencyModel(featuresOf(0).length), ratios: [], runs: 0, longestMs: 0 };
    this.#kinds.set(kind, known);
    return known;
  }
}

const featuresOf = (tokens: number) => [1, tokens];

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
}
