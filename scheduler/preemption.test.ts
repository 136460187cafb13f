// Requests that lose their rows, for a higher class or for memory, give the same tokens and log-probabilities as
// alone. The device is one whose logits depend on everything that a row has seen, and how it was cut.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { greedySampling } from "../kernels/sampling/sampler.ts";
import { requestOf } from "./generation-request-fixture.ts";
import { HistoryRunner } from "./history-runner-fixture.ts";
import { EngineLoop } from "./loop.ts";
import { schedulingPolicyNames } from "./policies/index.ts";
import type { Blend, FromEngine, GenerationEvent, GenerationRequest } from "./protocol.ts";
import { defaultScheduling, type SchedulingOptions } from "./scheduling-options.ts";

const chunkTokens = 4;

type Machine = { readonly rows: number; readonly kvTokens: number; readonly scheduling: SchedulingOptions };
/** A request and the number of event messages after which it comes. */
type Arrival = { readonly request: GenerationRequest; readonly after: number };

async function serve(arrivals: readonly Arrival[], { rows, kvTokens, scheduling }: Machine) {
  const runner = new HistoryRunner({ maxRows: rows, maxContext: 64, kvTokens });
  const events = new Map<string, GenerationEvent[]>();
  const refused: string[] = [];
  let messages = 0;
  let pending = [...arrivals];
  const submitDue = () => {
    const due = pending.filter(({ after }) => after <= messages);
    pending = pending.filter(({ after }) => after > messages);
    for (const { request } of due) loop.receive({ type: "submit", request });
  };
  const post = (message: FromEngine) => {
    if (message.type === "refused") refused.push(`${message.id} ${message.code}`);
    if (message.type !== "events") return;
    messages++;
    for (const [id, event] of message.events) events.set(id, [...(events.get(id) ?? []), event]);
    submitDue();
  };
  const { vocabSize } = runner;
  const options = {
    runner,
    scheduling,
    chunkTokens,
    promptTokensPerStep: 12,
    eosTokenIds: [],
    vocabSize,
    post,
  };
  const loop = new EngineLoop(options);
  for (const version of ["a", "b", "c"])
    loop.receive({ type: "add-adapter", version, adapter: { modules: [] } });
  submitDue();
  await loop.idle();
  while (pending.length > 0) {
    messages = Number.POSITIVE_INFINITY;
    submitDue();
    await loop.idle();
  }
  return { events, refused, runner, stats: loop.stats() };
}

const withoutTiming = (events: readonly GenerationEvent[] | undefined) =>
  events?.map((event) => (event.type === "finished" ? { ...event, timing: null } : event));

const alone = { rows: 2, kvTokens: 64, scheduling: defaultScheduling };

const blends: readonly (Blend | null)[] = [
  null,
  null,
  {
    type: "logits",
    members: [
      { adapterVersion: null, weight: -0.5 },
      { adapterVersion: "a", weight: 1.5 },
    ],
  },
  {
    type: "logits",
    members: [
      { adapterVersion: "b", weight: 0.7 },
      { adapterVersion: "c", weight: 0.3 },
    ],
  },
  {
    type: "compare",
    members: [
      { adapterVersion: "c", weight: 1 },
      { adapterVersion: null, weight: 1 },
    ],
  },
];

const arrivals = fc.array(
  fc.record({
    after: fc.nat(12),
    promptTokens: fc.integer({ min: 1, max: 14 }),
    maxTokens: fc.integer({ min: 1, max: 10 }),
    priority: fc.integer({ min: -1, max: 1 }),
    adapterVersion: fc.constantFrom(null, "a", "b", "c"),
    tenant: fc.constantFrom("one", "two"),
    promptLogprobs: fc.constantFrom(null, null, 1),
    blend: fc.constantFrom(...blends),
  }),
  { minLength: 2, maxLength: 10 },
);

const machines = fc.record({
  rows: fc.integer({ min: 1, max: 4 }),
  kvTokens: fc.integer({ min: 24, max: 60 }),
  deviceSlots: fc.integer({ min: 1, max: 3 }),
  policy: fc.constantFrom(...schedulingPolicyNames),
});

test("random arrivals on machines that are too small: the same events as alone, and no limit passed", async () => {
  let preemptions = 0;
  let blended = 0;
  await fc.assert(
    fc.asyncProperty(arrivals, machines, async (specs, { rows, kvTokens, deviceSlots, policy }) => {
      const fits = (blend: Blend | null, tokens: number) =>
        rows >= 2 && deviceSlots >= 2 && 2 * tokens <= kvTokens ? blend : null;
      const all = specs.map(({ after, promptTokens, tenant, blend, ...changes }, index) => ({
        after,
        request: requestOf({
          ...changes,
          blend: fits(blend, promptTokens + changes.maxTokens),
          id: `r${index}`,
          tenant: { id: tenant, weight: 1, rowsAtOnce: null },
          promptTokenIds: Array.from({ length: promptTokens }, (_, at) => (index * 7 + at * 3) % 60),
          logprobs: 1,
          sampling: { ...greedySampling, temperature: 1, frequencyPenalty: 0.5, seed: index },
        }),
      }));
      const scheduling = { ...defaultScheduling, deviceSlots, policy };
      const { events, refused, runner, stats } = await serve(all, { rows, kvTokens, scheduling });
      assert.deepEqual(refused, []);
      assert.ok(runner.most.rows <= rows && runner.most.adapters <= deviceSlots);
      assert.deepEqual([stats.running, stats.waiting, stats.kvTokensUsed], [0, 0, 0]);
      for (const { request } of all) {
        const expected = (await serve([{ request, after: 0 }], alone)).events.get(request.id);
        assert.deepEqual(withoutTiming(events.get(request.id)), withoutTiming(expected));
      }
      preemptions += stats.preemptions;
      blended += all.filter(({ request }) => request.blend !== null).length;
    }),
    { seed: 1, numRuns: 300 },
  );
  assert.ok(preemptions > 100, `only ${preemptions} preemptions were seen`);
  assert.ok(blended > 50, `only ${blended} blends were seen`);
});

test("a more important request takes a row at the next step, and the preempted one goes on afterwards", async () => {
  const machine = { rows: 1, kvTokens: 64, scheduling: defaultScheduling };
  const slow = requestOf({ id: "slow", maxTokens: 20, priority: 5 });
  const urgent = requestOf({ id: "urgent", maxTokens: 3, priority: -1 });
  const equal = requestOf({ id: "equal", maxTokens: 3, priority: 5 });
  const { events, stats, runner } = await serve(
    [
      { request: slow, after: 0 },
      { request: equal, after: 1 },
      { request: urgent, after: 4 },
    ],
    machine,
  );
  assert.equal(stats.preemptions, 1);
  const order = runner.runs.map(({ sequences }) => sequences[0]!).filter((id, at, all) => id !== all[at - 1]);
  assert.deepEqual(order, ["slow", "urgent", "slow", "equal"]);
  for (const { id, maxTokens } of [slow, urgent, equal]) {
    assert.equal(events.get(id)!.filter(({ type }) => type === "token").length, maxTokens);
  }
});
