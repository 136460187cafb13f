// What the project wants of a GPU, and what a report says of it.

import type { CoServingRound } from "./co-serving-round.ts";
import type { PeftSide } from "./peft-side.ts";
import type { ReportPlan } from "./report-plan.ts";
import type { DecodeRound } from "./runner-rounds.ts";

export type Goal = {
  readonly name: string;
  readonly measured: number | null; // null = there was nothing to compare with, or nothing to measure
  readonly wanted: { readonly atLeast: number } | { readonly atMost: number };
  readonly met: boolean | null;
};

/** At 16 rows with 16 adapters, or at the most that are measured. */
export function goalRows({ rows }: Pick<ReportPlan, "rows">): number {
  return Math.min(16, Math.max(...rows));
}

type Measured = {
  readonly rows: number;
  readonly decode: readonly Pick<DecodeRound, "rows" | "adapters" | "tokensPerSecond">[];
  readonly peft: PeftSide;
  readonly coServing: CoServingRound | { readonly reason: string };
};

export function goalsOf({ rows, decode, peft, coServing }: Measured): Goal[] {
  const speed = (from: Measured["decode"], adapters: number) =>
    from.find((round) => round.rows === rows && round.adapters === adapters)!.tokensPerSecond;
  const timesPeft = "reason" in peft ? null : speed(decode, rows) / speed(peft.decode, rows);
  const tax = 1 - speed(decode, rows) / speed(decode, 0);
  const both = "reason" in coServing ? null : coServing;
  return [
    goal("decode, times transformers + PEFT", timesPeft, { atLeast: 3 }),
    goal("LoRA tax", tax, { atMost: 0.15 }),
    // FlexLLM's figure, arXiv 2402.18789: its two halves, which have to be met together.
    goal("training at half the serving load, of training alone", both?.trainingShare ?? null, {
      atLeast: 0.8,
    }),
    goal("requests in time meanwhile", both?.inTime ?? null, { atLeast: 0.99 }),
  ];
}

function goal(name: string, measured: number | null, wanted: Goal["wanted"]): Goal {
  if (measured === null) return { name, measured, wanted, met: null };
  return {
    name,
    measured,
    wanted,
    met: "atLeast" in wanted ? measured >= wanted.atLeast : measured <= wanted.atMost,
  };
}
