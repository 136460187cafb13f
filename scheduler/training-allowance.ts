// Whether a unit of finetuning comes before the next step of serving, and how much of the engine's time finetuning
// may have. Pure.

import type { StepPlan } from "./plan-step.ts";
import { decodeMsOf, type PromptBudget } from "./prompt-allowance.ts";
import type { SequenceSnapshot, Snapshot } from "./scheduling-policy.ts";

/** Of the engine's time while requests are there. */
export type TrainingShare = { readonly min: number; readonly max: number }; // 0 <= min <= max <= 1

/** When a sequence's last token came, when its next one is due by the answer's mean, and when at the latest. */
type AwaitedToken = { readonly lastMs: number; readonly dueMs: number; readonly latestMs: number };

/** What the next step of serving would be. */
export type ServingOutlook = {
  readonly nowMs: number;
  readonly awaited: readonly AwaitedToken[]; // by the sequences that decode
  readonly rows: number; // that are taken
  readonly maxRows: number;
  readonly readsPrompts: boolean;
  readonly isCrowded: boolean; // somebody waits for a place that others hold
  readonly decodeMs: number | null; // predicted; null = not known yet
};

export function servingOutlook(
  { nowMs, sequences, maxRows, targets }: Snapshot,
  plan: StepPlan,
  budget: Pick<PromptBudget, "latency" | "bytesOf">,
): ServingOutlook {
  const holders = sequences.filter(({ state }) => state !== "waiting");
  const decoding = holders.filter(({ state }) => state === "decoding");
  const decodeMs = decoding.length === 0 ? 0 : decodeMsOf(decoding, budget);
  const rows = holders.reduce((sum, sequence) => sum + sequence.rows, 0);
  const reserveMs = reservedShare * (rows / maxRows) * (decodeMs ?? 0);
  const meanMs = Math.min(aimedShare * targets.tpotMs, targets.tpotMs - reserveMs);
  const pace = { longestMs: longestShare * targets.tpotMs, meanMs };
  return {
    nowMs,
    awaited: decoding.map((sequence) => awaitedToken(sequence, pace)),
    rows,
    maxRows,
    readsPrompts: plan.prefill.length > 0,
    isCrowded: plan.isCrowded,
    decodeMs,
  };
}

const aimedShare = 0.97; // of the target between two tokens, on average and at most
const longestShare = 1.25; // of the target: so long may a single token take, in an answer that is early
/**
 * Of a decode step's time, where all rows are taken: left of the target as well, and less with fewer. What is not
 * foreseen (prompts of others, hold-ups of the machine) grows with the times of runs and with who else is there, and
 * the more of the target decode steps take, the slower an answer catches up.
 */
const reservedShare = 0.85;

/**
 * What came early may be waited for again, and after what came late the next ones are due sooner: the target is an
 * answer's, on average. A single token may be somewhat later than it.
 */
function awaitedToken(
  { arrivedMs, firstTokenMs, lastTokenMs, generatedTokens }: SequenceSnapshot,
  { meanMs, longestMs }: { readonly meanMs: number; readonly longestMs: number },
): AwaitedToken {
  if (firstTokenMs === null || lastTokenMs === null) {
    return { lastMs: arrivedMs, dueMs: arrivedMs, latestMs: arrivedMs };
  }
  const dueMs = firstTokenMs + generatedTokens * meanMs;
  return { lastMs: lastTokenMs, dueMs, latestMs: lastTokenMs + longestMs };
}

/** Of the rows. While so many are free tokens are waited for until they are due, with so few not at all. */
const freeShares = { ample: 0.5, scarce: 0.3 };

/**
 * Milliseconds until decoding must go on. Waiting makes decode batches fuller, and so cheaper per token, but also
 * keeps rows longer: the fewer rows are free, the less is waited, so that rows stay free for whoever comes.
 * @param overdueMs that a token may come after it is due
 */
export function msBeforeDecode(serving: ServingOutlook, overdueMs: number): number {
  const { nowMs, awaited, rows, maxRows, decodeMs } = serving;
  if (serving.readsPrompts || serving.isCrowded) return 0;
  if (awaited.length === 0) return Number.POSITIVE_INFINITY;
  if (decodeMs === null) return 0;
  const freeShare = (maxRows - rows + 1) / maxRows; // of what is there beside one row
  const { ample, scarce } = freeShares;
  const waitedShare = Math.max(0, Math.min(1, (freeShare - scarce) / (ample - scarce)));
  const startsMs = awaited.map(({ lastMs, dueMs, latestMs }) => {
    const endsMs = Math.min(dueMs + overdueMs, latestMs);
    return lastMs + waitedShare * (endsMs - lastMs - decodeMs);
  });
  return Math.max(0, Math.min(...startsMs) - nowMs);
}

/** Time that finetuning has a claim to, and time that it may take, in milliseconds. */
export type TrainingCredit = { readonly owedMs: number; readonly roomMs: number };

/** @param unitMs that such a unit usually takes; null = it is the first of its kind, to be tried */
export function unitComesFirst(
  unitMs: number | null,
  credit: TrainingCredit,
  beforeDecodeMs: number,
): boolean {
  const neededMs = unitMs ?? 0;
  if (credit.owedMs > 0 && credit.owedMs >= neededMs) return true;
  return credit.roomMs >= 0 && beforeDecodeMs > 0 && beforeDecodeMs >= neededMs;
}
