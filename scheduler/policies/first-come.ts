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
      const left = sequence.promptTokens - sequence.computedTokens;
      const chunk = Math.min(budget.chunkTokens, left);
      if (chunk > tokens) break;
      if (sequence.state === "waiting" && freeRows === 0) continue; // one that has its row may stand behind it
      if (sequence.state === "waiting") freeRows--;
      prefill.push({ id: sequence.id, tokens: chunk });
      if (chunk < left) break; // its next chunk comes before anybody else's
      tokens -= chunk;
    }
    return { decode, prefill } satisfies StepPlan;
  },
};
