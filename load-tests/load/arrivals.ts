// When requests are sent. Open loop: at times of a random process, whatever the server does meanwhile. Closed
// loop: each of a number of clients sends its next request when it has its last answer.

import type { Random } from "./random.ts";

export type Arrivals =
  | { readonly kind: "poisson"; readonly requestsPerSecond: number }
  /** Gamma-distributed gaps; a coefficient of variation of 1 is Poisson, more is burstier. */
  | { readonly kind: "bursty"; readonly requestsPerSecond: number; readonly variation: number }
  | { readonly kind: "closed"; readonly clients: number };

export type OpenArrivals = Exclude<Arrivals, { kind: "closed" }>;

/** Times in milliseconds from the start, ascending, up to the end. */
export function* arrivalTimesMs(
  arrivals: OpenArrivals,
  random: Random,
  durationMs: number,
): Generator<number> {
  for (let atMs = gapMs(arrivals, random); atMs < durationMs; atMs += gapMs(arrivals, random)) yield atMs;
}

function gapMs(arrivals: OpenArrivals, random: Random): number {
  const meanMs = 1000 / arrivals.requestsPerSecond;
  if (arrivals.kind === "poisson") return meanMs * random.exponential();
  const shape = 1 / arrivals.variation ** 2; // gamma: mean shape * scale, variation 1 / sqrt(shape)
  return (meanMs * random.gamma(shape)) / shape;
}
