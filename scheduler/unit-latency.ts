// What units of finetuning took, and what the next one takes, learnt while units run: by kind and tokens. Knows no jobs:
// units of several share a kind.

import { LatencyModel } from "./latency-model.ts";
import type { UnitTotals } from "./protocol.ts";

export type UnitWork = { readonly kind: string; readonly tokens: number };

type Kind = { readonly model: LatencyModel; longestMs: number; count: number; seconds: number };

export class UnitLatency {
  readonly #kinds = new Map<string, Kind>();

  /**
   * Milliseconds that such a unit usually takes; null before the first of its kind, and its longest one before there
   * is a prediction. No bound of what it may take: while a neighbour of the machine holds up one unit of ten, nothing
   * would fit before such a bound, none would run, and nothing better would be learnt.
   */
  usualMs({ kind, tokens }: UnitWork): number | null {
    const known = this.#kinds.get(kind);
    return known === undefined ? null : (known.model.predict(featuresOf(tokens)) ?? known.longestMs);
  }

  took({ kind, tokens }: UnitWork, ms: number): void {
    const known = this.#kinds.get(kind) ?? this.#add(kind);
    known.longestMs = Math.max(known.longestMs, ms);
    known.count++;
    known.seconds += ms / 1000;
    known.model.observe(featuresOf(tokens), ms);
  }

  /** The worst kind's median relative error; null before there is any. */
  get error(): number | null {
    const errors = [...this.#kinds.values()].flatMap(({ model }) => model.error ?? []);
    return errors.length === 0 ? null : Math.max(...errors);
  }

  get totals(): Record<string, UnitTotals> {
    return Object.fromEntries(
      [...this.#kinds].map(([kind, { count, seconds }]) => [kind, { count, seconds }]),
    );
  }

  #add(kind: string): Kind {
    const known = { model: new LatencyModel(featuresOf(0).length), longestMs: 0, count: 0, seconds: 0 };
    this.#kinds.set(kind, known);
    return known;
  }
}

const featuresOf = (tokens: number) => [1, tokens];
