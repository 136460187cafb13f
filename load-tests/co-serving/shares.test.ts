import assert from "node:assert/strict";
import { test } from "node:test";
import type { Measured } from "./measured-host.ts";
import { type Round, sharesOf } from "./shares.ts";

const slo = { ttftMs: 100, tpotMs: 20 };

/** Of ten seconds. */
function measured({ tokens = 0, forward = 0, update = 0, unitMs = 20 } = {}): Measured {
  const units = new Map([
    ["forward", { count: forward, seconds: (forward * unitMs) / 1000 }],
    ["update", { count: update, seconds: (update * unitMs) / 10_000 }],
  ]);
  const answer = {
    ...{ stream: 0, tenant: "a", model: "m", promptTokens: tokens, outputTokens: tokens },
    ...({ dueMs: 0, sentMs: 0, endedMs: 9_000, outcome: "finished", error: null } as const),
    chunkMs: Float64Array.from({ length: tokens }, (_, index) => 50 + index * 10),
  };
  return {
    spent: { seconds: 10, tokens: 1000, busySeconds: 4, units },
    records: tokens === 0 ? [] : [answer],
    window: { fromMs: 0, toMs: 10_000 },
  };
}

const even: Round = {
  capacity: measured({ tokens: 800 }),
  solo: measured({ forward: 400, update: 800 }),
  serving: measured({ tokens: 400 }),
  both: measured({ tokens: 400, forward: 200, update: 200, unitMs: 40 }),
  apart: null,
};

test("work counts as long as it takes alone, whatever it took and in which part of a step it was", () => {
  const { serving, training, busy, inTime } = sharesOf(even, even.both, slo);
  assert.equal(serving, 0.5);
  assert.ok(Math.abs(training - (200 * 20 + 200 * 2) / (400 * 20 + 800 * 2)) < 1e-9);
  assert.equal(busy, 0.4);
  assert.equal(inTime, 1);
});

test("a prompt whose answer is still to come was served as well, at half the price of a token", () => {
  const [answer] = measured({ tokens: 400 }).records;
  const begun = { ...answer!, promptTokens: 1600, outputTokens: 1, chunkMs: Float64Array.of(5) };
  const both = { ...measured(), records: [begun] };
  assert.ok(Math.abs(sharesOf(even, both, slo).serving - 1602 / 2400) < 1e-9);
});
