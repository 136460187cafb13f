// Whether a unit of finetuning comes before the next step of serving, and how much of the engine's time finetuning
// may have. Pure.

import type { StepPlan } from "./plan-step.ts";
import { decodeMsOf, type PromptBudget } from "./prompt-allowance.ts";
import type { SequenceSnapshot, Snapshot } from "./scheduling-policy.ts";

/** Of the engine's time while requests are there. */
export type TrainingShare = { readonly min: number; readonly max: number }; // 0 <= min <= max <= 1

/** What the next step of serving would be. */
export type ServingOutlook = {
  readonly nowMs: number;
  readonly lastTokensMs: readonly number[]; // of the sequences that decode: when they came, or were to come before
  readonly rows: number; // that are taken
  readonly maxRows: number;
  readonly readsPrompts: boolean;
  readonly isCrowded: boolean; // somebody waits for a place that others hold
  readonly decodeMs: number | null; // predicted; null = not known yet
  readonly tpotTargetMs: number;
};

export function servingOutlook(
  { nowMs, sequences, maxRows, targets }: Snapshot,
  plan: StepPlan,
  budget: Pick<PromptBudget, "latency" | "bytesOf">,
): ServingOutlook {
  const holders = sequences.filter(({ state }) => state !== "waiting");
  const decoding = holders.filter(({ state }) => state === "decoding");
  return {
    nowMs,
    lastTokensMs: decoding.map((sequence) => lastTokenMs(sequence, aimedShare * targets.tpotMs)),
    rows: holders.reduce((sum, { rows }) => sum + rows, 0),
    maxRows,
    readsPrompts: plan.prefill.length > 0,
    isCrowded: plan.isCrowded,
    decodeMs: decoding.length === 0 ? 0 : decodeMsOf(decoding, budget),
    tpotTargetMs: targets.tpotMs,
  };
}

/** Of the target between two tokens; the rest is for messages and for what takes longer than it usually does. */
const aimedShare = 0.9;

/** What is late must not make all that follows late: the target is of an answer's tokens on average. */
function lastTokenMs(sequence: SequenceSnapshot, paceMs: number): number {
  const { arrivedMs, firstTokenMs, lastTokenMs, generatedTokens } = sequence;
  if (firstTokenMs === null || lastTokenMs === null) return arrivedMs;
  return Math.min(lastTokenMs, firstTokenMs + (generatedTokens - 1) * paceMs);
}

/** While more rows than this are free, all of the target is waited: room for whoever comes meanwhile. */
const ampleShare = 0.5;

/**
 * Milliseconds until decoding must go on. Waiting makes decode batches fuller, and so cheaper per token, but also
 * keeps rows longer: the fewer rows are free, the less of the target is waited, so that rows stay free for whoever
 * comes.
 */
export function msBeforeDecode(serving: ServingOutlook): number {
  const { nowMs, lastTokensMs, rows, maxRows, decodeMs, tpotTargetMs } = serving;
  if (serving.readsPrompts || serving.isCrowded) return 0;
  if (lastTokensMs.length === 0) return Number.POSITIVE_INFINITY;
  if (decodeMs === null) return 0;
  const freeShare = (maxRows - rows + 1) / maxRows; // of what is there beside one row
  const waitedShare = Math.min(1, freeShare / ampleShare);
  const startMs = Math.min(...lastTokensMs) + waitedShare * (aimedShare * tpotTargetMs - decodeMs);
  return Math.max(0, startMs - nowMs);
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
