// The contract of a scheduling policy: a pure function from what is there to what the next step does. A policy
// knows token counts, ids and arrival order; no text, no tensors, no clocks.

export type SequenceSnapshot = {
  readonly id: string;
  readonly adapterVersion: string | null;
  readonly state: "waiting" | "prefilling" | "decoding";
  readonly promptTokens: number;
  readonly computedTokens: number; // of the prompt, already in the KV store
};

/** Sequences in order of arrival. */
export type Snapshot = { readonly sequences: readonly SequenceSnapshot[]; readonly maxRows: number };

/**
 * What one step may spend. A prompt is always cut at multiples of chunkTokens, whoever else is there: a chunk's
 * length changes the last bits of what it computes, and a text must not depend on its neighbours.
 */
export type Budget = {
  readonly chunkTokens: number; // at most both of the following
  readonly prefillTokens: number; // while nobody decodes
  readonly prefillTokensBesideDecode: number; // while others wait for their next token
};

export type StepPlan = {
  readonly decode: readonly string[]; // all of these advance by one token, together
  readonly prefill: readonly { readonly id: string; readonly tokens: number }[]; // a waiting one takes a row
};

export type SchedulingPolicy = {
  readonly plan: (snapshot: Snapshot, budget: Budget) => StepPlan;
};
