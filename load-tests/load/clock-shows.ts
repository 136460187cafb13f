import { setTimeout as delay } from "node:timers/promises";

/**
 * Resolves once the clock shows so many milliseconds. A timer alone may ring before, where the clock stood still
 * meanwhile (co-serving/turns.ts).
 */
export async function clockShows(
  ms: number,
  nowMs: () => number = () => performance.now(),
  signal?: AbortSignal,
): Promise<void> {
  for (let leftMs = ms - nowMs(); leftMs > 0; leftMs = ms - nowMs()) {
    await delay(leftMs, undefined, { signal });
  }
}
