// How much prompt one step may read. A prompt is always cut at the same places, whoever else is there, because a
// chunk's length changes the last bits of what it computes: what adapts is the number of chunks, never their length.

import type { SequenceSnapshot, Snapshot } from "./scheduling-policy.ts";
import type { LatencyEstimate } from "./step-latency.ts";

export type PromptBudget = {
  readonly tokens: number; // of prompts in one step
  readonly latency: LatencyEstimate;
  readonly bytesOf: (adapterVersion: string) => number;
};

/** Of the target between two tokens: answers whose mean is beyond that go before prompts that can wait, if that helps. */
const pressingShare = 0.9;
/** Of the target of a first token: so long a prompt can wait. */
const patientShare = 0.5;

export class PromptAllowance {
  readonly #budget: PromptBudget;
  readonly #patientSinceMs: number = Number.POSITIVE_INFINITY; // prompts that came later can wait
  #tokensLeft: number;
  #msLeft: number; // until the decoding rows must have their next token
  #isUntouched = true;

  /** @param decoding the rows that wait for their next token meanwhile */
  constructor(budget: PromptBudget, decoding: readonly SequenceSnapshot[], { targets, nowMs }: Snapshot) {
    this.#budget = budget;
    this.#tokensLeft = budget.tokens;
    this.#msLeft = Number.POSITIVE_INFINITY;
    if (decoding.length === 0) return;
    const decodeMs = decodeMsOf(decoding, budget) ?? targets.tpotMs;
    this.#msLeft = targets.tpotMs - decodeMs;
    const pressingMs = pressingShare * targets.tpotMs;
    const presses = ({ firstTokenMs, generatedTokens }: SequenceSnapshot) =>
      nowMs > (firstTokenMs ?? nowMs) + generatedTokens * pressingMs;
    if (decodeMs < pressingMs && decoding.some(presses))
      this.#patientSinceMs = nowMs - patientShare * targets.ttftMs;
  }

  /** Whether the sequence's next chunk may run. */
  allows(sequence: SequenceSnapshot): boolean {
    return this.#allows(sequence, sequence.computedTokens);
  }

  /** Spends what the sequence's next chunks take; returns how many, at most all it has left. */
  grant(sequence: SequenceSnapshot): number {
    let chunks = 0;
    let done = sequence.computedTokens;
    while (done < sequence.promptTokens && this.#allows(sequence, done)) {
      const tokens = chunkAt(sequence, done);
      this.#isUntouched = false;
      this.#tokensLeft -= tokens;
      this.#msLeft -= this.#chunkMs(sequence, done) ?? 0;
      done += tokens;
      chunks++;
    }
    return chunks;
  }

  /** The step's first chunk may unless it can wait: prompts go on however slow the machine is, by one between two tokens. */
  #allows(sequence: SequenceSnapshot, done: number): boolean {
    if (this.#isUntouched)
      return sequence.firstTokenMs !== null || sequence.arrivedMs <= this.#patientSinceMs;
    if (chunkAt(sequence, done) > this.#tokensLeft) return false;
    if (this.#msLeft === Number.POSITIVE_INFINITY) return true;
    const ms = this.#chunkMs(sequence, done);
    return ms !== null && ms <= this.#msLeft;
  }

  #chunkMs(sequence: SequenceSnapshot, pastTokens: number): number | null {
    const { adapterVersions, rows } = sequence;
    const adapterBytes = bytesOfAll(adapterVersions, this.#budget) / rows; // on average: each row runs the chunk
    const tokens = chunkAt(sequence, pastTokens);
    const ms = this.#budget.latency.chunkMs({ tokens, pastTokens, adapterBytes });
    return ms === null ? null : ms * rows;
  }
}

type LatencyBudget = Pick<PromptBudget, "latency" | "bytesOf">;

/** What the next decode step of these takes; null where too few were seen. */
export function decodeMsOf(decoding: readonly SequenceSnapshot[], budget: LatencyBudget): number | null {
  const versions = new Set(decoding.flatMap(({ adapterVersions }) => adapterVersions));
  return budget.latency.decodeMs({
    rows: decoding.reduce((sum, { rows }) => sum + rows, 0),
    pastTokens: decoding.reduce((sum, { contextTokens, rows }) => sum + contextTokens * rows, 0),
    adapterBytes: bytesOfAll([...versions], budget),
  });
}

function bytesOfAll(versions: readonly string[], { bytesOf }: LatencyBudget): number {
  return versions.reduce((sum, version) => sum + bytesOf(version), 0);
}

/** Tokens of the chunk that starts at `done`: up to the next multiple of its chunk length, or to the prompt's end. */
export function chunkAt(
  { chunkTokens, promptTokens }: Pick<SequenceSnapshot, "chunkTokens" | "promptTokens">,
  done: number,
): number {
  return Math.min(chunkTokens - (done % chunkTokens), promptTokens - done);
}
