// What every policy owes the loop through plan-step.ts, over random snapshots and over simulated floods; then what
// each policy promises by itself.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { planStep, type StepPlan } from "../plan-step.ts";
import { chunkAt, type PromptBudget } from "../prompt-allowance.ts";
import type { SequenceSnapshot, Snapshot, TenantSnapshot } from "../scheduling-policy.ts";
import { chunkTokens, sequenceOf } from "../sequence-snapshot-fixture.ts";
import { adapterAffinity } from "./adapter-affinity.ts";
import { deadline } from "./deadline.ts";
import { fairShare } from "./fair-share.ts";
import { firstCome } from "./first-come.ts";
import { type SchedulingPolicyName, schedulingPolicies } from "./index.ts";

const growthReserve = 1 / 16;
const tenantIds = ["one", "two", "three"] as const;
const versions = [null, "a", "b", "c"] as const;

const tenantOf = (changes: Partial<TenantSnapshot> = {}): TenantSnapshot => ({
  weight: 1,
  rowsAtOnce: null,
  served: 0,
  servedByAdapter: new Map(),
  ...changes,
});

const snapshotOf = (sequences: readonly SequenceSnapshot[], changes: Partial<Snapshot> = {}): Snapshot => ({
  nowMs: 0,
  sequences,
  tenants: new Map(tenantIds.map((id) => [id, tenantOf()])),
  residentAdapters: new Set(),
  maxRows: 4,
  maxAdapters: 4,
  maxKvBytes: Number.POSITIVE_INFINITY,
  targets: { ttftMs: 2000, tpotMs: 200 },
  ...changes,
});

const budgetOf = (
  tokens: number,
  chunkMs: number | null = null,
  decodeMs: number | null = null,
): PromptBudget => ({
  tokens,
  latency: { chunkMs: () => chunkMs, decodeMs: () => decodeMs },
  bytesOf: () => 0,
});

const one = fc.record({
  tenant: fc.constantFrom(...tenantIds),
  adapterVersion: fc.constantFrom(...versions),
  priority: fc.constantFrom(0, 0, 0, 1, -1),
  state: fc.constantFrom<SequenceSnapshot["state"]>("waiting", "prefilling", "decoding"),
  promptTokens: fc.integer({ min: 1, max: 90 }),
  computed: fc.double({ min: 0, max: 1, noNaN: true }),
  ageMs: fc.nat(4000),
});

/** Those with rows keep to the limits, as the loop left them, but for memory: that they may have outgrown. */
const snapshots: fc.Arbitrary<Snapshot> = fc
  .record({
    kinds: fc.array(one, { maxLength: 14 }),
    spareRows: fc.nat(3),
    spareAdapters: fc.nat(2),
    kvShare: fc.double({ min: 0.5, max: 3, noNaN: true }),
    served: fc.array(fc.nat(500), { minLength: 3, maxLength: 3 }),
    rowsAtOnce: fc.constantFrom(null, 1, 2),
  })
  .map(({ kinds, spareRows, spareAdapters, kvShare, served, rowsAtOnce }) => {
    const ages = kinds.map(({ ageMs }) => ageMs).sort((a, b) => b - a);
    const sequences = kinds.map(({ computed, ageMs: _, ...rest }, index) => {
      const chunks = Math.floor((computed * (rest.promptTokens - 1)) / chunkTokens) * chunkTokens;
      const computedTokens = { waiting: 0, prefilling: chunks, decoding: rest.promptTokens }[rest.state];
      const arrivedMs = 10_000 - ages[index]!;
      return sequenceOf({
        ...rest,
        id: `s${index}`,
        computedTokens,
        kvBytes: rest.promptTokens + 1,
        arrivedMs,
      });
    });
    const holders = sequences.filter(({ state }) => state !== "waiting");
    const largest = Math.max(1, ...sequences.map(({ kvBytes }) => kvBytes));
    return snapshotOf(sequences, {
      nowMs: 10_000,
      tenants: new Map(
        tenantIds.map((id, index) => [
          id,
          tenantOf({
            weight: index + 1,
            served: served[index]!,
            rowsAtOnce: rowsAtOnce && rowsAtOnce + holders.filter(({ tenant }) => tenant === id).length,
          }),
        ]),
      ),
      residentAdapters: new Set(["b"]),
      maxRows: Math.max(1, holders.length + spareRows),
      maxAdapters: Math.max(1, adaptersOf(holders) + spareAdapters),
      maxKvBytes: Math.max(largest, kvShare * sum(holders.map(({ kvBytes }) => kvBytes))),
    });
  });

const budgets: fc.Arbitrary<PromptBudget> = fc
  .record({
    tokens: fc.integer({ min: chunkTokens, max: 100 }),
    chunkMs: fc.option(fc.integer({ min: 1, max: 300 })),
    decodeMs: fc.option(fc.integer({ min: 1, max: 300 })),
  })
  .map(({ tokens, chunkMs, decodeMs }) => budgetOf(tokens, chunkMs, decodeMs));

const runs = { seed: 1, numRuns: 2000 };
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const adaptersOf = (sequences: readonly SequenceSnapshot[]) =>
  new Set(sequences.flatMap(({ adapterVersion }) => adapterVersion ?? [])).size;

/** Who has a row once the plan has run. */
function holdersAfter({ sequences }: Snapshot, { preempt, prefill }: StepPlan): SequenceSnapshot[] {
  const started = new Set(prefill.map(({ id }) => id));
  return sequences.filter(
    ({ id, state }) => !preempt.includes(id) && (state !== "waiting" || started.has(id)),
  );
}

function tokensOf(sequence: SequenceSnapshot, chunks: number): number {
  let done = sequence.computedTokens;
  for (let chunk = 0; chunk < chunks; chunk++) done += chunkAt(sequence, done);
  return done - sequence.computedTokens;
}

for (const [name, policy] of Object.entries(schedulingPolicies)) {
  test(`${name}: a plan names sequences of the snapshot, each once and in a state that can do it`, () => {
    fc.assert(
      fc.property(snapshots, budgets, (snapshot, budget) => {
        const { preempt, decode, prefill } = planStep(policy, snapshot, budget);
        const ids = [...preempt, ...decode, ...prefill.map(({ id }) => id)];
        assert.equal(new Set(ids).size, ids.length);
        const byId = new Map(snapshot.sequences.map((sequence) => [sequence.id, sequence]));
        assert.ok(preempt.every((id) => byId.get(id)!.state !== "waiting"));
        const decoding = snapshot.sequences.filter(({ state }) => state === "decoding").map(({ id }) => id);
        assert.deepEqual(
          decode,
          decoding.filter((id) => !preempt.includes(id)),
          "every row that can decode does",
        );
        for (const { id, chunks } of prefill) {
          const { state, promptTokens, computedTokens } = byId.get(id)!;
          assert.notEqual(state, "decoding");
          assert.ok(chunks >= 1 && tokensOf(byId.get(id)!, chunks) <= promptTokens - computedTokens);
          assert.ok(tokensOf(byId.get(id)!, chunks - 1) < promptTokens - computedTokens);
        }
      }),
      runs,
    );
  });

  test(`${name}: rows, adapters, memory, tenants' rows and prompt tokens keep to their limits`, () => {
    fc.assert(
      fc.property(snapshots, budgets, (snapshot, budget) => {
        const plan = planStep(policy, snapshot, budget);
        const holders = holdersAfter(snapshot, plan);
        assert.ok(holders.length <= snapshot.maxRows);
        assert.ok(adaptersOf(holders) <= snapshot.maxAdapters);
        assert.ok(sum(holders.map(({ kvBytes }) => kvBytes)) <= snapshot.maxKvBytes);
        for (const [tenant, { rowsAtOnce }] of snapshot.tenants) {
          const own = holders.filter((holder) => holder.tenant === tenant);
          assert.ok(rowsAtOnce === null || own.length <= rowsAtOnce);
        }
        const byId = new Map(snapshot.sequences.map((sequence) => [sequence.id, sequence]));
        const tokens = sum(plan.prefill.map(({ id, chunks }) => tokensOf(byId.get(id)!, chunks)));
        assert.ok(tokens <= budget.tokens);
      }),
      runs,
    );
  });

  test(`${name}: beside decoding rows, all but the first chunk fit the inter-token target by the model`, () => {
    fc.assert(
      fc.property(snapshots, budgets, (snapshot, budget) => {
        const { decode, prefill } = planStep(policy, snapshot, budget);
        const chunks = sum(prefill.map((planned) => planned.chunks));
        if (decode.length === 0 || chunks <= 1) return;
        const { latency } = budget;
        const work = { rows: 0, tokens: 0, pastTokens: 0, adapterBytes: 0 };
        const [chunkMs, decodeMs] = [latency.chunkMs(work), latency.decodeMs(work)];
        assert.ok(chunkMs !== null && decodeMs !== null, "more than one chunk without a prediction");
        assert.ok(decodeMs + chunks * chunkMs <= snapshot.targets.tpotMs);
      }),
      runs,
    );
  });

  test(`${name}: rows are lost to higher classes or to memory only, and never in vain`, () => {
    fc.assert(
      fc.property(snapshots, budgets, (snapshot, budget) => {
        const plan = planStep(policy, snapshot, budget);
        if (plan.preempt.length === 0) return;
        const byId = new Map(snapshot.sequences.map((sequence) => [sequence.id, sequence]));
        const holders = snapshot.sequences.filter(({ state }) => state !== "waiting");
        const isOutgrown = sum(holders.map(({ kvBytes }) => kvBytes)) > snapshot.maxKvBytes;
        const started = plan.prefill
          .map(({ id }) => byId.get(id)!)
          .filter(({ state }) => state === "waiting");
        const best = Math.min(...started.map(({ priority }) => priority));
        assert.ok(isOutgrown || plan.preempt.every((id) => byId.get(id)!.priority > best));
      }),
      runs,
    );
  });

  test(`${name}: work is done while there is any, places are filled, and the input is left as it was`, () => {
    fc.assert(
      fc.property(snapshots, budgets, (snapshot, budget) => {
        const before = structuredClone(snapshot);
        const plan = planStep(policy, snapshot, budget);
        assert.deepEqual(structuredClone(snapshot), before);
        assert.deepEqual(planStep(policy, snapshot, budget), plan, "not a function of its input");
        if (snapshot.sequences.length > 0) assert.ok(plan.decode.length + plan.prefill.length > 0);
        // Nobody fresh who would fit stays out, unless the prompt budget is what is missing.
        const holders = holdersAfter(snapshot, plan);
        const fresh = snapshot.sequences.every(({ arrivedMs }) => snapshot.nowMs - arrivedMs <= 2000);
        const chunks = sum(plan.prefill.map((planned) => planned.chunks));
        if (!fresh || plan.preempt.length > 0 || chunks > 0) return;
        const waiting = snapshot.sequences.filter(({ state }) => state === "waiting");
        assert.ok(waiting.every((sequence) => !fits(sequence, holders, snapshot)));
      }),
      runs,
    );
  });

  test(`${name}: in a flood of later requests, one that needs an adapter of its own is done within its bound`, () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.integer({ min: 1, max: 3 }), (seed, maxAdapters) => {
        const known = name as SchedulingPolicyName;
        const steps = stepsUntilDone(known, { seed, maxAdapters });
        assert.ok(steps <= starvationBoundSteps(known), `${steps} steps`);
      }),
      { seed: 1, numRuns: 40 },
    );
  });
}

/** Written apart from places.ts: may the sequence join these? */
function fits(sequence: SequenceSnapshot, holders: readonly SequenceSnapshot[], snapshot: Snapshot): boolean {
  const { rowsAtOnce } = snapshot.tenants.get(sequence.tenant)!;
  const own = holders.filter(({ tenant }) => tenant === sequence.tenant).length;
  const kvBytes = sum([...holders, sequence].map((member) => member.kvBytes));
  const reserve = holders.length === 0 ? 0 : snapshot.maxKvBytes * growthReserve;
  return (
    holders.length < snapshot.maxRows &&
    adaptersOf([...holders, sequence]) <= snapshot.maxAdapters &&
    kvBytes + reserve <= snapshot.maxKvBytes &&
    (rowsAtOnce === null || own < rowsAtOnce)
  );
}

// The flood: in every step of 20 ms two requests of another tenant arrive, on adapters that are always running.
const stepMs = 20;
const answerTokens = 12;
const arrivalsPerStep = 2;
const rowSteps = answerTokens + 6; // that a request of the flood holds its row
/** How much later one may come and still be put in front. */
const headStartMs: Readonly<Record<SchedulingPolicyName, number>> = {
  "first-come": 0,
  "fair-share": 0, // the flooding tenant was served more
  deadline: 0, // all have the same targets
  "adapter-affinity": 1000,
};

/** plan-step.ts's patience of 2000 ms; those with a head start; then every row's answer once, and the own one. */
function starvationBoundSteps(name: SchedulingPolicyName): number {
  const inFront = 6 + (headStartMs[name] / stepMs) * arrivalsPerStep;
  return 2000 / stepMs + (inFront / 4) * rowSteps + 2 * rowSteps;
}

type Flood = { readonly seed: number; readonly maxAdapters: number };
type Simulated = SequenceSnapshot & { readonly decoded: number };

/** Steps until the request `lonely`, which came first on adapter c, has its answer. */
function stepsUntilDone(name: SchedulingPolicyName, { seed, maxAdapters }: Flood): number {
  const served = new Map<string, number>();
  const budget = budgetOf(4 * chunkTokens, 4, 4);
  let draw = seed;
  const random = (below: number) => {
    draw = (Math.imul(draw, 1664525) + 1013904223) >>> 0;
    return Math.floor((draw / 2 ** 32) * below);
  };
  const arrivalOf = (id: string, arrivedMs: number, rest: Partial<SequenceSnapshot>) => {
    const promptTokens = 1 + random(40);
    return {
      ...sequenceOf({ ...rest, id, arrivedMs, promptTokens, kvBytes: promptTokens + answerTokens }),
      decoded: 0,
    };
  };
  const flood = (step: number, index: number) =>
    arrivalOf(`f${step}-${index}`, step * stepMs, {
      tenant: "two",
      adapterVersion: index === 0 ? "a" : null,
    });
  let state: Simulated[] = [flood(0, 0), flood(0, 1), flood(0, 0), flood(0, 1)].map((one, index) => ({
    ...one,
    id: `g${index}`,
  }));
  for (let step = 1; ; step++) {
    if (step === 2) state.push(arrivalOf("lonely", step * stepMs, { adapterVersion: "c" }));
    state.push(flood(step, 0), flood(step, 1));
    const tenants = new Map(tenantIds.map((id) => [id, tenantOf({ served: served.get(id) ?? 0 })]));
    const snapshot = snapshotOf(state, { nowMs: step * stepMs, tenants, maxAdapters, maxKvBytes: 260 });
    const plan = planStep(schedulingPolicies[name], snapshot, budget);
    for (const { tenant, id } of state) {
      if (plan.decode.includes(id)) served.set(tenant, (served.get(tenant) ?? 0) + 2);
    }
    state = state.map((sequence) => advance(sequence, plan)).filter(({ decoded }) => decoded < answerTokens);
    if (step >= 2 && !state.some(({ id }) => id === "lonely")) return step - 2;
    if (step > 2 * starvationBoundSteps(name)) return Number.POSITIVE_INFINITY;
  }
}

function advance(sequence: Simulated, plan: StepPlan): Simulated {
  if (plan.preempt.includes(sequence.id)) return { ...sequence, state: "waiting", computedTokens: 0 };
  if (plan.decode.includes(sequence.id)) return { ...sequence, decoded: sequence.decoded + 1 };
  const chunks = plan.prefill.find(({ id }) => id === sequence.id)?.chunks ?? 0;
  if (chunks === 0) return sequence;
  const computedTokens = sequence.computedTokens + tokensOf(sequence, chunks);
  return {
    ...sequence,
    computedTokens,
    state: computedTokens === sequence.promptTokens ? "decoding" : "prefilling",
  };
}

const idsOf = (sequences: readonly SequenceSnapshot[]) => sequences.map(({ id }) => id);
const waitingOf = (...specs: readonly Partial<SequenceSnapshot>[]) =>
  specs.map((spec, index) => sequenceOf({ id: `s${index}`, arrivedMs: index, ...spec }));

test("a limit of rows lowered below what a waiting sequence takes lets it run alone", () => {
  const tenants = new Map([["one", tenantOf({ rowsAtOnce: 2 })]]); // it was 4 when the blend was taken in
  const blend = sequenceOf({ id: "blend", rows: 4 });
  const admitted = (sequences: readonly SequenceSnapshot[]) =>
    planStep(firstCome, snapshotOf(sequences, { tenants }), budgetOf(100)).prefill.map(({ id }) => id);
  assert.deepEqual(admitted([sequenceOf({ id: "running", state: "decoding" }), blend]), []);
  assert.deepEqual(admitted([blend, sequenceOf({ id: "next" })]), ["blend"]);
});

test("classes come before any policy: a lower value runs first", () => {
  const sequences = waitingOf({ priority: 1 }, { priority: 0 }, { priority: -5 });
  for (const policy of Object.values(schedulingPolicies)) {
    const { prefill } = planStep(policy, snapshotOf(sequences), budgetOf(100));
    assert.deepEqual(
      prefill.map(({ id }) => id),
      ["s2", "s1", "s0"],
    );
  }
});

test("first-come: the order of arrival", () => {
  const sequences = waitingOf({}, { tenant: "two" }, {});
  assert.deepEqual(idsOf(firstCome.order(sequences, snapshotOf(sequences))), ["s0", "s1", "s2"]);
});

test("fair-share: the tenant that was served least comes first, by weight, and prompts are charged as they go", () => {
  const tenants = new Map([
    ["one", tenantOf({ served: 100 })],
    ["two", tenantOf({ served: 95, weight: 2 })],
  ]);
  const two = { tenant: "two", promptTokens: 8 }; // 4 each, over the weight
  const sequences = waitingOf({}, {}, two, two, two, two);
  // two: 95, 99, 103, 107; one: 100, 110
  const order = fairShare.order(sequences, snapshotOf(sequences, { tenants }));
  assert.deepEqual(idsOf(order), ["s2", "s3", "s0", "s4", "s5", "s1"]);
});

test("fair-share: inside a tenant, the adapter that was served least", () => {
  const servedByAdapter = new Map([
    ["a", 50],
    ["b", 45],
  ]);
  const tenants = new Map([["one", tenantOf({ servedByAdapter })]]);
  const sequences = waitingOf(
    { adapterVersion: "a" },
    { adapterVersion: "a" },
    { adapterVersion: "b" },
    { adapterVersion: "b" },
  );
  const order = fairShare.order(sequences, snapshotOf(sequences, { tenants }));
  assert.deepEqual(idsOf(order), ["s2", "s0", "s3", "s1"]); // b 45, a 50, b 55, a 60
});

test("deadline: what is due first, by the targets, the request's own timeout, or its last token", () => {
  const sequences = waitingOf({}, { expiresMs: 500 }, { lastTokenMs: 100 }, { expiresMs: 1e6 });
  assert.deepEqual(idsOf(deadline.order(sequences, snapshotOf(sequences))), ["s2", "s1", "s0", "s3"]);
});

test("adapter-affinity: running adapters and the base first, then resident ones, for a second at most", () => {
  const running = sequenceOf({ id: "runs", state: "decoding", adapterVersion: "a" });
  const sequences = waitingOf(
    { adapterVersion: "c" },
    { adapterVersion: "b" },
    { adapterVersion: "a" },
    { adapterVersion: null },
    { adapterVersion: "a", arrivedMs: 1001 },
  );
  const snapshot = snapshotOf([running, ...sequences], { residentAdapters: new Set(["a", "b"]) });
  assert.deepEqual(idsOf(adapterAffinity.order(sequences, snapshot)), ["s2", "s3", "s1", "s0", "s4"]);
});

test("a sequence that waited past the first-token target for its adapter lets nobody behind it pass any more", () => {
  const holder = sequenceOf({ id: "holds", state: "decoding", adapterVersion: "a" });
  const sequences = [holder, ...waitingOf({ adapterVersion: "b" }, { adapterVersion: "a" })];
  const planAt = (nowMs: number) =>
    planStep(firstCome, snapshotOf(sequences, { nowMs, maxAdapters: 1 }), budgetOf(100)).prefill;
  assert.deepEqual(planAt(2000), [{ id: "s1", chunks: 1 }]);
  assert.deepEqual(planAt(2001), []);
});
