// The loop with finetuning beside requests: when units run, what a request that arrives waits for, how pauses, drops
// and failures end, and that no token depends on any of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { JobStart } from "../finetuning/job.ts";
import { startScene } from "./co-serving-fixture.ts";
import { requestOf } from "./generation-request-fixture.ts";
import { HistoryRunner } from "./history-runner-fixture.ts";
import { EngineLoop } from "./loop.ts";
import type { FromEngine } from "./protocol.ts";
import { defaultScheduling } from "./scheduling-options.ts";

test("without requests the units run back to back, and all are counted", async (t) => {
  const { loop, train, events, log, posted } = startScene(t);
  const run = train("job");
  await loop.idle();
  assert.deepEqual(events(run), ["started", ...Array(20).fill("step"), "finished"]);
  assert.deepEqual(
    log.map(({ atMs }) => atMs),
    Array.from({ length: 20 }, (_, unit) => unit * 10),
  );
  const last = posted.at(-1)!;
  assert.ok(last.type === "stats");
  const { training, steps, stepSeconds } = last.stats;
  assert.deepEqual([steps, stepSeconds], [0, 0]); // of serving
  assert.deepEqual([training.tokens, training.steps], [160, 20]);
  assert.deepEqual([training.jobs, training.unitsDeferred, training.shareOfTime], [0, 0, 0]);
  const { open, forward } = training.units; // the first one has no kind yet, and the last call finds the job's end
  assert.deepEqual([open?.count, forward?.count], [1, 20]);
  assert.ok(Math.abs(open!.seconds + forward!.seconds - 0.2) < 1e-9);
});

test("a request that arrives waits for one unit at most, and its prompt is read before the next one", async (t) => {
  const { loop, train, submit, log, hooks } = startScene(t, { units: 40 });
  train("job");
  let arrivedAt = -1;
  hooks.push((message) => {
    if (message.type !== "training" || message.event.type !== "step" || message.event.step !== 17) return;
    arrivedAt = log.length;
    setImmediate(() => submit(requestOf({ promptTokenIds: Array(12).fill(3) }))); // as a message comes
  });
  await loop.idle();
  const after = log.slice(arrivedAt).map(({ what }) => what);
  assert.deepEqual(
    after.slice(after.indexOf("prefill"), after.indexOf("prefill") + 3),
    Array(3).fill("prefill"),
  );
  assert.ok(after.indexOf("prefill") <= 1, after.join());
});

/** How many milliseconds lay between the decode steps. */
function gaps(log: ReturnType<typeof startScene>["log"]): number[] {
  const decodes = log.filter(({ what }) => what === "decode").map(({ atMs }) => atMs);
  return decodes.slice(1).map((atMs, index) => atMs - decodes[index]!);
}

test("beside rows that decode, units run until the next token must be made, and no longer", async (t) => {
  const { loop, train, submit, log } = startScene(t, {
    units: 4000,
    decodeMs: 15,
    scheduling: { tpotTargetMs: 100, trainingShare: { min: 0, max: 1 } },
  });
  submit(requestOf({ maxTokens: 400 }));
  train("job");
  await loop.idle();
  const known = gaps(log).slice(100); // of 8 units, or one less or more, and a decode step
  assert.ok(known.every((ms) => ms <= 105));
  const mean = known.reduce((sum, ms) => sum + ms, 0) / known.length;
  assert.ok(mean >= 95 && mean <= 98, `${mean} ms between tokens`);
});

test("units that something holds up make no answer late: the tokens after them come sooner", async (t) => {
  let units = 0;
  const { loop, train, submit, log } = startScene(t, {
    units: 3000,
    unitMs: () => (++units % 25 === 0 ? 250 : 10),
    decodeMs: 15,
    scheduling: { tpotTargetMs: 100, trainingShare: { min: 0, max: 1 } },
  });
  submit(requestOf({ maxTokens: 400 }));
  train("job");
  await loop.idle();
  const all = gaps(log);
  assert.ok(all.some((ms) => ms > 250));
  const mean = all.reduce((sum, ms) => sum + ms, 0) / all.length;
  assert.ok(mean >= 85 && mean <= 98, `${mean} ms between tokens`);
});

test("the share's most is kept where there is time left, its least where there is none", async (t) => {
  for (const [trainingShare, tpotTargetMs, expected] of [
    [{ min: 0, max: 0.3 }, 1000, 0.3],
    [{ min: 0.1, max: 1 }, 1, 0.1],
  ] as const) {
    const scene = startScene(t, { units: 1e6, scheduling: { trainingShare, tpotTargetMs } });
    const { loop, train, submit, log, hooks } = scene;
    hooks.push((message) => {
      if (message.type !== "events") return;
      if (message.events.some(([, { type }]) => type === "finished"))
        loop.receive({ type: "drop-training", jobId: "job" });
    });
    submit(requestOf({ maxTokens: 3000 }));
    train("job");
    await loop.idle();
    const units = log.filter(({ what }) => what === "unit");
    const share = (units.length * 10) / log.at(-1)!.atMs;
    assert.ok(Math.abs(share - expected) < 0.02, `${share} instead of ${expected}`);
    assert.ok(Math.abs(loop.stats().training.shareOfTime - expected) < 0.05);
    assert.ok(loop.stats().training.unitsDeferred > 100);
    t.mock.restoreAll();
  }
});

test("requests that wait for rows get them first: training has its least share until the queue is empty", async (t) => {
  const { loop, train, submit, log } = startScene(t, { units: 2000, maxRows: 2 });
  for (let request = 0; request < 20; request++) submit(requestOf({ id: `${request}`, maxTokens: 50 }));
  train("job");
  await loop.idle();
  const starts = log.filter(({ what }) => what === "prefill").map(({ atMs }) => atMs);
  const crowdedMs = starts.at(-1)!; // the last one has its row
  const units = log.filter(({ what, atMs }) => what === "unit" && atMs < crowdedMs).length;
  const share = (units * 10) / crowdedMs;
  assert.ok(share > 0.03 && share < 0.07, `${share}`);
});

test("a tenant's own limit of rows holds nobody else back, training neither", async (t) => {
  const { loop, train, submit, log } = startScene(t, { units: 2000, decodeMs: 5 });
  const tenant = { id: "narrow", weight: 1, rowsAtOnce: 1 };
  for (let request = 0; request < 10; request++) {
    submit(requestOf({ id: `${request}`, tenant, maxTokens: 50 }));
  }
  train("job");
  await loop.idle();
  const lastMs = log.findLast(({ what }) => what === "decode")!.atMs;
  const units = log.filter(({ what, atMs }) => what === "unit" && atMs < lastMs).length;
  assert.ok((units * 10) / lastMs > 0.5);
});

test("jobs of two tenants share the units by weight", async (t) => {
  const { loop, train, log } = startScene(t, { units: 30 });
  train("light", "one", 1);
  train("heavy", "two", 2);
  await loop.idle();
  const first = log.slice(0, 30).filter(({ job }) => job === "heavy").length;
  assert.ok(first >= 19 && first <= 21, `${first} of 30`);
});

test("pause, drop and failure end a job in the middle of its work; the other goes on", async (t) => {
  const { loop, train, events, hooks, log } = startScene(t, {
    units: 50,
    fail: (id) => {
      if (id === "fails" && log.filter(({ job }) => job === id).length === 7) throw new Error("no");
    },
  });
  const runs = ["stays", "paused", "dropped", "fails"].map((id) => train(id));
  hooks.push((message) => {
    if (message.type !== "training" || message.event.type !== "step" || message.event.step !== 5) return;
    if (message.run === runs[1]) loop.receive({ type: "pause-training", jobId: "paused" });
    if (message.run === runs[2]) loop.receive({ type: "drop-training", jobId: "dropped" });
  });
  await loop.idle();
  const steps = (count: number) => Array(count).fill("step");
  assert.deepEqual(events(runs[0]!), ["started", ...steps(50), "finished"]);
  assert.deepEqual(events(runs[1]!), ["started", ...steps(5), "paused"]);
  assert.deepEqual(events(runs[2]!), ["started", ...steps(5)]);
  assert.deepEqual(events(runs[3]!), ["started", ...steps(6), "failed"]);
});

for (const [decodeMs, unitsPerStep] of [
  [5, 1],
  [100, 5], // as long as half of the step
] as const) {
  test(`a pause ends soon beside requests that leave no time: at most ${unitsPerStep} of its units to a step`, async (t) => {
    const scheduling = { tpotTargetMs: 1, trainingShare: { min: 0, max: 1 } };
    const scene = startScene(t, { units: 1e6, pauseUnits: 30, decodeMs, scheduling });
    const { loop, train, submit, events, hooks, log } = scene;
    const run = train("job");
    const during: number[] = []; // entries of the log
    hooks.push((message) => {
      if (message.type !== "training") return;
      if (message.event.type === "paused") during.push(log.length);
      if (message.event.type !== "step" || message.event.step !== 3) return;
      submit(requestOf({ maxTokens: 100 }));
      loop.receive({ type: "pause-training", jobId: "job" });
      during.push(log.length);
    });
    await loop.idle();
    assert.deepEqual(events(run), ["started", "step", "step", "step", "paused"]);
    const steps = log.slice(...during).map(({ what }) => (what === "unit" ? "u" : "s")); // each step with its units
    const own = steps.join("").split("s").slice(1);
    assert.ok(own.every((units) => units.length <= unitsPerStep));
    assert.ok(own.length <= 30 / unitsPerStep + 3, `${own}`);
    assert.equal(own.join("").length, 30);
  });
}

test("close ends the loop after the unit under way", async (t) => {
  const { loop, train, hooks, count } = startScene(t, { units: 1000 });
  train("job");
  hooks.push((message) => {
    if (message.type === "training" && message.event.type === "step" && message.event.step === 3)
      loop.receive({ type: "close" });
  });
  await loop.idle();
  assert.ok(count("unit") <= 4);
});

test("an engine without a trainer fails a job, and says why", async () => {
  const posted: FromEngine[] = [];
  const runner = new HistoryRunner({ maxRows: 1, maxContext: 64, kvTokens: 1000 });
  const post = (message: FromEngine) => posted.push(message);
  const cut = { chunkTokens: 4, promptTokensPerStep: 16, eosTokenIds: [], vocabSize: 64 };
  const loop = new EngineLoop({ runner, scheduling: defaultScheduling, ...cut, post });
  loop.receive({ type: "start-training", run: 1, job: { id: "job" } as JobStart });
  await loop.idle();
  const [first] = posted;
  assert.ok(first?.type === "training" && first.event.type === "failed");
  assert.equal(first.event.code, "training_unsupported");
});

test("no token depends on training beside it, and everything ends, whatever comes when", async (t) => {
  const arrival = fc.record({
    after: fc.nat(60), // messages
    tokens: fc.integer({ min: 1, max: 30 }),
    prompt: fc.array(fc.nat(63), { minLength: 1, maxLength: 20 }),
  });
  const scenario = fc.record({
    arrivals: fc.array(arrival, { minLength: 1, maxLength: 12 }),
    unitMs: fc.integer({ min: 1, max: 80 }),
    maxRows: fc.integer({ min: 1, max: 4 }),
    jobs: fc.integer({ min: 1, max: 3 }),
  });
  type Scenario = typeof scenario extends fc.Arbitrary<infer Value> ? Value : never;
  const serve = async ({ arrivals, ...options }: Scenario, jobs: number) => {
    const { loop, submit, train, tokens, hooks, events } = startScene(t, options);
    const pending = arrivals
      .map(({ after, tokens: maxTokens, prompt }, id) => ({
        after,
        request: requestOf({ id: `${id}`, maxTokens, promptTokenIds: prompt }),
      }))
      .sort((one, other) => other.after - one.after);
    let messages = 0;
    hooks.push(() => {
      messages++;
      while (pending.length > 0 && pending.at(-1)!.after <= messages) submit(pending.pop()!.request);
    });
    const runs = Array.from({ length: jobs }, (_, job) => train(`job ${job}`, `tenant ${job % 2}`));
    await loop.idle();
    for (const { request } of pending) submit(request);
    pending.length = 0;
    await loop.idle();
    for (const run of runs) assert.equal(events(run).at(-1), "finished");
    t.mock.restoreAll();
    return tokens().sort();
  };
  await fc.assert(
    fc.asyncProperty(scenario, async (one) => {
      assert.deepEqual(await serve(one, one.jobs), await serve(one, 0));
    }),
    { numRuns: 30 },
  );
});
