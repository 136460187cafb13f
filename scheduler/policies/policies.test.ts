// What every policy owes the loop, over random snapshots; then first-come's own promises.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Budget, SequenceSnapshot, Snapshot, StepPlan } from "../scheduling-policy.ts";
import { firstCome } from "./first-come.ts";
import { schedulingPolicies } from "./index.ts";

/** Rows that are taken never exceed maxRows, as the loop keeps it. */
const snapshots: fc.Arbitrary<Snapshot> = fc
  .record({
    kinds: fc.array(
      fc.record({
        state: fc.constantFrom<SequenceSnapshot["state"]>("waiting", "prefilling", "decoding"),
        promptTokens: fc.integer({ min: 1, max: 700 }),
        computed: fc.double({ min: 0, max: 1, noNaN: true }),
        adapterVersion: fc.constantFrom(null, "a", "b"),
      }),
      { maxLength: 14 },
    ),
    spareRows: fc.nat(4),
  })
  .map(({ kinds, spareRows }) => {
    const sequences = kinds.map(({ state, promptTokens, computed, adapterVersion }, index) => ({
      id: `s${index}`,
      state,
      adapterVersion,
      promptTokens,
      computedTokens:
        state === "waiting"
          ? 0
          : state === "decoding"
            ? promptTokens
            : Math.floor(computed * (promptTokens - 1)),
    }));
    const taken = sequences.filter(({ state }) => state !== "waiting").length;
    return { sequences, maxRows: Math.max(1, taken + spareRows) };
  });

const budgets: fc.Arbitrary<Budget> = fc
  .record({ chunkTokens: fc.integer({ min: 1, max: 150 }), idle: fc.nat(450), beside: fc.nat(100) })
  .map(({ chunkTokens, idle, beside }) => ({
    chunkTokens,
    prefillTokens: chunkTokens + idle,
    prefillTokensBesideDecode: chunkTokens + beside,
  }));

const runs = { seed: 1, numRuns: 2000 };
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

for (const [name, policy] of Object.entries(schedulingPolicies)) {
  test(`${name}: a plan names sequences of the snapshot, each at most once and in a state that can do it`, () => {
    fc.assert(
      fc.property(snapshots, budgets, (snapshot, budget) => {
        const { decode, prefill } = policy.plan(snapshot, budget);
        const ids = [...decode, ...prefill.map(({ id }) => id)];
        assert.equal(new Set(ids).size, ids.length);
        const byId = new Map(snapshot.sequences.map((sequence) => [sequence.id, sequence]));
        assert.ok(decode.every((id) => byId.get(id)?.state === "decoding"));
        for (const { id, tokens } of prefill) {
          const { state, promptTokens, computedTokens } = byId.get(id)!;
          assert.notEqual(state, "decoding");
          assert.ok(Number.isInteger(tokens) && tokens >= 1 && tokens <= promptTokens - computedTokens);
        }
      }),
      runs,
    );
  });

  test(`${name}: neither the prefill budget nor the rows are exceeded`, () => {
    fc.assert(
      fc.property(snapshots, budgets, (snapshot, budget) => {
        const { decode, prefill } = policy.plan(snapshot, budget);
        const limit = decode.length > 0 ? budget.prefillTokensBesideDecode : budget.prefillTokens;
        assert.ok(sum(prefill.map(({ tokens }) => tokens)) <= limit);
        const waiting = new Set(
          snapshot.sequences.filter(({ state }) => state === "waiting").map(({ id }) => id),
        );
        const taken = snapshot.sequences.length - waiting.size;
        assert.ok(taken + prefill.filter(({ id }) => waiting.has(id)).length <= snapshot.maxRows);
      }),
      runs,
    );
  });

  test(`${name}: a prompt is cut at multiples of the chunk, whoever else is there`, () => {
    fc.assert(
      fc.property(snapshots, budgets, (snapshot, budget) => {
        const { chunkTokens } = budget;
        const sequences = snapshot.sequences.map((one) => ({
          ...one,
          computedTokens:
            one.state === "prefilling"
              ? one.computedTokens - (one.computedTokens % chunkTokens)
              : one.computedTokens,
        }));
        for (const { id, tokens } of policy.plan({ ...snapshot, sequences }, budget).prefill) {
          const { promptTokens, computedTokens } = sequences.find((one) => one.id === id)!;
          assert.equal(tokens, Math.min(chunkTokens, promptTokens - computedTokens));
        }
      }),
      runs,
    );
  });

  test(`${name}: work is done while there is any, and the input is left as it was`, () => {
    fc.assert(
      fc.property(snapshots, budgets, (snapshot, budget) => {
        const before = structuredClone(snapshot);
        const plan = policy.plan(snapshot, budget);
        assert.deepEqual(snapshot, before);
        assert.deepEqual(policy.plan(snapshot, budget), plan, "not a function of its input");
        if (snapshot.sequences.length > 0) assert.ok(plan.decode.length + plan.prefill.length > 0);
      }),
      runs,
    );
  });

  test(`${name}: everybody is done after a bounded number of steps`, () => {
    fc.assert(
      fc.property(snapshots, budgets, (snapshot, budget) => {
        const tokensToDecode = 3;
        const work = sum(
          snapshot.sequences.map((one) => one.promptTokens - one.computedTokens + tokensToDecode),
        );
        let state = snapshot.sequences.map((sequence) => ({ ...sequence, decoded: 0 }));
        let steps = 0;
        for (; state.length > 0; steps++) {
          assert.ok(steps <= work, `still ${state.length} after ${steps} steps`);
          const plan = policy.plan({ sequences: state, maxRows: snapshot.maxRows }, budget);
          state = state.map((one) => advance(one, plan)).filter(({ decoded }) => decoded < tokensToDecode);
        }
      }),
      { seed: 1, numRuns: 100 },
    );
  });
}

function advance<T extends SequenceSnapshot & { decoded: number }>(sequence: T, plan: StepPlan): T {
  const tokens = plan.prefill.find(({ id }) => id === sequence.id)?.tokens ?? 0;
  const computedTokens = sequence.computedTokens + tokens;
  const decoded = sequence.decoded + (plan.decode.includes(sequence.id) ? 1 : 0);
  if (tokens === 0) return { ...sequence, decoded };
  return {
    ...sequence,
    computedTokens,
    state: computedTokens === sequence.promptTokens ? "decoding" : "prefilling",
  };
}

test("first-come: every decoding row advances in every step", () => {
  fc.assert(
    fc.property(snapshots, budgets, (snapshot, budget) => {
      const decoding = snapshot.sequences.filter(({ state }) => state === "decoding").map(({ id }) => id);
      assert.deepEqual(firstCome.plan(snapshot, budget).decode, decoding);
    }),
    runs,
  );
});

test("first-come: nobody's prompt is touched before an earlier one that could run is done", () => {
  fc.assert(
    fc.property(snapshots, budgets, (snapshot, budget) => {
      const { prefill } = firstCome.plan(snapshot, budget);
      let freeRows = snapshot.maxRows - snapshot.sequences.filter(({ state }) => state !== "waiting").length;
      const pending = snapshot.sequences.filter(
        ({ state }) => state === "prefilling" || (state === "waiting" && freeRows-- > 0),
      );
      assert.deepEqual(
        prefill.map(({ id }) => id),
        pending.slice(0, prefill.length).map(({ id }) => id),
      );
      const unfinished = prefill.filter(({ tokens }, index) => {
        const { promptTokens, computedTokens } = pending[index]!;
        return tokens < promptTokens - computedTokens;
      });
      assert.ok(unfinished.length === 0 || unfinished[0] === prefill.at(-1));
    }),
    runs,
  );
});
