// Finds stop strings in text that arrives in pieces, and holds back what could be the start of one.
// Knows no tokens: the cut does not depend on how the text was divided.

export type StopMatch = {
  readonly text: string; // what may go out now
  readonly stop: string | null; // the stop string that ended the text, if one did
};

export type StopMatcherOptions = { readonly includeStop: boolean };

/**
 * The text ends at the stop string that is complete first; of several complete at the same character, at the
 * one that starts first.
 */
export class StopMatcher {
  readonly #stops: readonly string[];
  readonly #includeStop: boolean;
  #held = "";

  constructor(stops: readonly string[], options: StopMatcherOptions) {
    this.#stops = stops;
    this.#includeStop = options.includeStop;
  }

  push(text: string): StopMatch {
    const pending = this.#held + text;
    const found = firstComplete(this.#stops, pending);
    if (found) {
      this.#held = "";
      const end = this.#includeStop ? found.end : found.end - found.stop.length;
      return { text: pending.slice(0, end), stop: found.stop };
    }
    const heldLength = longestPossibleStart(this.#stops, pending);
    this.#held = pending.slice(pending.length - heldLength);
    return { text: pending.slice(0, pending.length - heldLength), stop: null };
  }

  /** The held text, once it is certain that nothing follows. */
  flush(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }
}

type Found = { readonly stop: string; readonly end: number };

function firstComplete(stops: readonly string[], text: string): Found | null {
  let best: Found | null = null;
  for (const stop of stops) {
    const start = text.indexOf(stop);
    if (start < 0) continue;
    const end = start + stop.length;
    if (!best || end < best.end || (end === best.end && stop.length > best.stop.length)) best = { stop, end };
  }
  return best;
}

function longestPossibleStart(stops: readonly string[], text: string): number {
  let longest = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) {
        longest = length;
        break;
      }
    }
  }
  return longest;
}
