import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { SequenceSnapshot } from "./scheduling-policy.ts";
import { sequenceOf } from "./sequence-snapshot-fixture.ts";
import { msBeforeDecode, type ServingOutlook, servingOutlook, unitComesFirst } from "./training-allowance.ts";
import { TrainingLedger } from "./training-ledger.ts";

const awaitedTokens = fc
  .tuple(
    fc.double({ min: 9_000, max: 10_000, noNaN: true }),
    fc.double({ min: -500, max: 1000, noNaN: true }),
    fc.double({ min: 0, max: 500, noNaN: true }),
  )
  .map(([lastMs, dueMs, latestMs]) => ({ lastMs, dueMs: lastMs + dueMs, latestMs: lastMs + latestMs }));
const overdues = fc.double({ min: 0, max: 50, noNaN: true });

const outlooks: fc.Arbitrary<ServingOutlook> = fc.integer({ min: 1, max: 64 }).chain((maxRows) =>
  fc.record({
    nowMs: fc.constant(10_000),
    awaited: fc.array(awaitedTokens, { maxLength: maxRows }),
    rows: fc.integer({ min: 1, max: maxRows }), // those that decode have one
    maxRows: fc.constant(maxRows),
    readsPrompts: fc.boolean(),
    isCrowded: fc.boolean(),
    decodeMs: fc.option(fc.double({ min: 0, max: 400, noNaN: true }), { nil: null }),
  }),
);

test("a unit within the allowance leaves every row's next token in time", () => {
  fc.assert(
    fc.property(outlooks, overdues, (outlook, overdueMs) => {
      const ms = msBeforeDecode(outlook, overdueMs);
      assert.ok(ms >= 0);
      if (ms === 0) return;
      const nextTokenMs = outlook.nowMs + ms + outlook.decodeMs!;
      for (const { dueMs, latestMs } of outlook.awaited) {
        assert.ok(nextTokenMs <= Math.min(dueMs + overdueMs, latestMs) + 1e-6);
      }
    }),
  );
});

test("tokens are due by the answer's mean: what came early is waited for, up to a bound; what came late is not", () => {
  const targets = { ttftMs: 2000, tpotMs: 200 };
  const nobody = { tenants: new Map(), residentAdapters: new Set<string>() };
  const limits = { maxRows: 16, maxAdapters: 16, maxKvBytes: Number.POSITIVE_INFINITY };
  const plan = { preempt: [], decode: [], prefill: [], isCrowded: false };
  const awaited = (decodeMs: number, token: Partial<SequenceSnapshot>, others = 15) => {
    const first = sequenceOf({ id: "one", state: "decoding", firstTokenMs: 1000, ...token });
    const sequences = [first, sequenceOf({ id: "others", state: "prefilling", rows: others })];
    const latency = { decodeMs: () => decodeMs, chunkMs: () => null };
    const snapshot = { nowMs: 5000, sequences, targets, ...nobody, ...limits };
    return servingOutlook(snapshot, plan, { latency, bytesOf: () => 0 }).awaited[0]!;
  };
  const onTimeMs = 1000 + 9 * 183; // 0.85 of a decode step's 20 ms are left
  for (const lastTokenMs of [onTimeMs, onTimeMs - 500, onTimeMs + 500]) {
    const { dueMs, latestMs } = awaited(20, { generatedTokens: 10, lastTokenMs });
    assert.deepEqual([dueMs, latestMs], [onTimeMs + 183, lastTokenMs + 250]);
  }
  const second = { generatedTokens: 1, lastTokenMs: 1000 };
  assert.equal(awaited(0, second).dueMs, 1000 + 194);
  assert.equal(awaited(40, second).dueMs, 1200 - 34);
  assert.equal(awaited(40, second, 7).dueMs, 1200 - 17); // with half of the rows
});

test("nothing is allowed while prompts are read, places are short, or a decode step's time is not known", () => {
  fc.assert(
    fc.property(outlooks, overdues, (outlook, overdueMs) => {
      const { readsPrompts, isCrowded, decodeMs, awaited } = outlook;
      if (readsPrompts || isCrowded || (decodeMs === null && awaited.length > 0)) {
        assert.equal(msBeforeDecode(outlook, overdueMs), 0);
      }
    }),
  );
});

test("the more rows are taken the less is allowed; one row alone may wait until its token is due", () => {
  fc.assert(
    fc.property(outlooks, overdues, (outlook, overdueMs) => {
      const fuller = { ...outlook, rows: Math.min(outlook.rows + 1, outlook.maxRows) };
      assert.ok(msBeforeDecode(fuller, overdueMs) <= msBeforeDecode(outlook, overdueMs));
    }),
  );
  const tokens = { nowMs: 0, awaited: [{ lastMs: 0, dueMs: 180, latestMs: 250 }], decodeMs: 20 };
  const alone = { ...tokens, rows: 1, maxRows: 16, readsPrompts: false, isCrowded: false };
  assert.equal(msBeforeDecode({ ...alone, maxRows: 1 }, 0), 160);
  assert.equal(msBeforeDecode(alone, 0), 160);
  assert.equal(msBeforeDecode(alone, 10), 170);
  assert.equal(msBeforeDecode(alone, 100), 230);
  assert.equal(msBeforeDecode({ ...alone, rows: 9 }, 0), 160);
  assert.equal(Math.round(msBeforeDecode({ ...alone, rows: 11 }, 0)), 60);
  assert.equal(msBeforeDecode({ ...alone, rows: 13 }, 0), 0); // three rows are kept for whoever comes
});

test("a unit fits, or has a claim as long as itself; an unknown one is tried where there is either", () => {
  const none = { owedMs: 0, roomMs: 0 };
  assert.equal(unitComesFirst(null, none, 0), false);
  assert.equal(unitComesFirst(null, none, 1), true);
  assert.equal(unitComesFirst(null, { ...none, owedMs: 1 }, 0), true);
  assert.equal(unitComesFirst(30, none, 30), true);
  assert.equal(unitComesFirst(31, none, 30), false);
  assert.equal(unitComesFirst(31, { ...none, owedMs: 31 }, 0), true);
  assert.equal(unitComesFirst(31, { ...none, owedMs: 30 }, 0), false);
  assert.equal(unitComesFirst(30, { owedMs: 0, roomMs: -1 }, 1e9), false);
});

const shares = fc
  .tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true }))
  .map(([a, b]) => ({ min: Math.min(a, b), max: Math.max(a, b) }));
const ms = fc.double({ min: 0.1, max: 60, noNaN: true });

/** A minute of steps and units; returns the share that training had in the second half. */
function simulate(
  share: { min: number; max: number },
  times: { stepMs: number; unitMs: number; leftMs: number },
) {
  const ledger = new TrainingLedger(share);
  let trained = 0;
  let all = 0;
  for (let nowMs = 0; nowMs < 60_000; ) {
    const isUnit = unitComesFirst(times.unitMs, ledger.credit, times.leftMs);
    const took = isUnit ? times.unitMs : times.stepMs;
    if (isUnit) ledger.trained(took);
    else ledger.served(took);
    nowMs += took;
    if (nowMs < 30_000) continue;
    all += took;
    if (isUnit) trained += took;
  }
  assert.ok(Math.abs(ledger.shareOfTime - trained / all) < 0.05);
  return trained / all;
}

test("where there is no time left, training has its least share; where there is any, it has its most", () => {
  fc.assert(
    fc.property(shares, ms, ms, (share, stepMs, unitMs) => {
      const starved = simulate(share, { stepMs, unitMs, leftMs: 0 });
      assert.ok(Math.abs(starved - share.min) < 0.02, `${starved} instead of ${share.min}`);
      const fed = simulate(share, { stepMs, unitMs, leftMs: Number.POSITIVE_INFINITY });
      assert.ok(Math.abs(fed - share.max) < 0.02, `${fed} instead of ${share.max}`);
    }),
    { numRuns: 40 },
  );
});

test("units that take longer than the ledger remembers run all the same", () => {
  const share = simulate({ min: 0.05, max: 0.9 }, { stepMs: 50, unitMs: 2000, leftMs: 0 });
  assert.ok(share > 0.02, `${share}`);
});

test("a long time of plenty does not make training wait for its claim as long", () => {
  const ledger = new TrainingLedger({ min: 0.05, max: 1 });
  for (let second = 0; second < 3600; second++) ledger.trained(1000);
  let waitedMs = 0;
  for (; !unitComesFirst(40, ledger.credit, 0); waitedMs += 20) ledger.served(20);
  assert.ok(waitedMs <= 12_000, `${waitedMs} ms`);
});
