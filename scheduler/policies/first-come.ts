// First come, first served: every decoding row advances in every step; prompts are prefilled in order of arrival.

import type { SchedulingPolicy, StepPlan } from "../scheduling-policy.ts";

export const firstCome: SchedulingPolicy = {
  plan({ sequences, maxRows }, budget) {
    const decode = sequences.filter(({ state }) => state === "decoding").map(({ id }) => id);
    let tokens = decode.length > 0 ? budget.prefillTokensBesideDecode : budget.prefillTokens;
    let freeRows = maxRows - sequences.filter(({ state }) => state !== "waiting").length;
    const prefill: { id: string; tokens: number }[] = [];
    for (const sequence of sequences) {
      if (sequence.state === "decoding") continue;
      if (tokens === 0) break;
      if (sequence.state === "waiting" && freeRows === 0) continue; // one that has its row may stand behind it
      if (sequence.state === "waiting") freeRows--;
      const chunk = Math.min(tokens, sequence.promptTokens - sequence.computedTokens);
      prefill.push({ id: sequence.id, tokens: chunk });
      tokens -= chunk;
    }
    return { decode, prefill } satisfies StepPlan;
  },
};
