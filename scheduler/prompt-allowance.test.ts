import assert from "node:assert/strict";
import { test } from "node:test";
import { PromptAllowance } from "./prompt-allowance.ts";
import type { SequenceSnapshot } from "./scheduling-policy.ts";
import { sequenceOf } from "./sequence-snapshot-fixture.ts";

const nowMs = 10_000;
const targets = { ttftMs: 2000, tpotMs: 200 };
const rest = { tenants: new Map(), residentAdapters: new Set<string>(), sequences: [] };
const limits = { maxRows: 16, maxAdapters: 16, maxKvBytes: Number.POSITIVE_INFINITY };

/** Whether a prompt is read in a step beside an answer that has five tokens, its mean being `meanMs`. */
function isRead(meanMs: number, decodeMs: number | null, prompt: Partial<SequenceSnapshot>): boolean {
  const answer = { state: "decoding", generatedTokens: 5, firstTokenMs: nowMs - 5 * meanMs } as const;
  const latency = { decodeMs: () => decodeMs, chunkMs: () => 100 };
  const allowance = new PromptAllowance(
    { tokens: 100, latency, bytesOf: () => 0 },
    [sequenceOf({ id: "answer", ...answer })],
    { nowMs, targets, ...rest, ...limits },
  );
  return allowance.allows(sequenceOf({ id: "prompt", arrivedMs: nowMs, ...prompt }));
}

test("an answer that falls behind goes before prompts that can wait, where it can catch up", () => {
  assert.equal(isRead(170, 40, {}), true);
  assert.equal(isRead(190, 40, {}), false);
  assert.equal(isRead(190, 40, { arrivedMs: nowMs - 900 }), false);
  assert.equal(isRead(190, 40, { arrivedMs: nowMs - 1000 }), true); // half of its own target is over
  assert.equal(isRead(190, 40, { arrivedMs: nowMs - 10, firstTokenMs: nowMs - 5 }), true); // it is read again
  assert.equal(isRead(500, 190, {}), true); // waiting would help nobody
  assert.equal(isRead(500, null, {}), true);
});
