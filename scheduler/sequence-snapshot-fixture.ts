// What a plan is told of a request, for tests of plans.

import type { SequenceSnapshot } from "./scheduling-policy.ts";

export const chunkTokens = 16;

/** One that waits, of ten tokens, unless changed. */
export const sequenceOf = (
  changes: Partial<SequenceSnapshot> & { readonly id: string },
): SequenceSnapshot => ({
  tenant: "one",
  adapterVersion: null,
  rows: 1,
  adapterVersions: changes.adapterVersion ? [changes.adapterVersion] : [],
  priority: 0,
  state: "waiting",
  promptTokens: 10,
  computedTokens: 0,
  chunkTokens,
  contextTokens: 0,
  kvBytes: 10,
  arrivedMs: 0,
  generatedTokens: 0,
  firstTokenMs: null,
  lastTokenMs: null,
  expiresMs: null,
  ...changes,
});
