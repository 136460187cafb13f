// The trainer with jobs that only count: fair turns, memory, pauses and failures. Real jobs run in
// scheduler/co-serving.test.ts.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CotenantError } from "../kernels/errors.ts";
import type { SpareMemory } from "../kernels/training/training-kernel.ts";
import type { TrainingUnit } from "../kernels/training/training-pass.ts";
import type { JobEvent, JobStart } from "./job.ts";
import { Trainer, type TrainerOptions } from "./trainer.ts";

type Work = {
  readonly steps: number; // of a forward and a backward unit each
  readonly unitMs?: number;
  readonly fail?: () => void; // called in each unit
  readonly checkpoints?: boolean; // one after each step
  readonly backward?: boolean; // true unless given
  readonly pauseUnits?: number; // before the checkpoint that a pause keeps
};

const bytesPerToken = 10;

/** Jobs by id; each needs as many bytes as its name says behind the last space, 0 without. */
function startScene(
  works: Readonly<Record<string, Work>>,
  memoryBytes = 1000,
  close: () => Promise<void> = async () => undefined,
) {
  const log: string[] = [];
  const events = new Map<string, JobEvent[]>();
  const spent: SpareMemory[] = [];
  const kernels = { opened: 0, closed: 0 };
  const ran = new Map<string, number>(); // milliseconds by job
  const clock = { ms: 0 };
  const kernel = {
    keptBytesPerToken: bytesPerToken,
    spend: (memory: SpareMemory) => void spent.push(memory),
    close: async () => {
      kernels.closed++;
      await close();
    },
  };
  function* units(id: string, report: (event: JobEvent) => void): Generator<TrainingUnit, void, void> {
    const { steps, unitMs = 0, fail, checkpoints = false } = works[id]!;
    report({ type: "started", steps, parameters: 1 });
    for (let step = 1; step <= steps; step++) {
      for (const kind of ["forward", "backward"] as const) {
        const run = async () => {
          log.push(id);
          fail?.();
          clock.ms += unitMs;
          ran.set(id, (ran.get(id) ?? 0) + unitMs);
        };
        yield { kind, tokens: 8, run };
      }
      if (checkpoints) report(checkpointAt(step));
    }
    report({ type: "finished" });
  }
  const options: TrainerOptions<typeof kernel> = {
    memoryBytes,
    memoryOf: ({ id }) => ({
      bytes: Number(id.split(" ").at(-1)) || 0,
      backward: works[id]!.backward ?? true,
    }),
    openKernel: async () => {
      kernels.opened++;
      return kernel;
    },
    openJob: ({ id }, { report }) => ({
      units: () => units(id, report),
      *pause() {
        for (let unit = 0; unit < (works[id]!.pauseUnits ?? 0); unit++) {
          yield { kind: "update", tokens: 0, run: async () => void log.push(`pause ${id}`) };
        }
        if (works[id]!.checkpoints) report(checkpointAt(0));
        report({ type: "paused", reason: null });
      },
    }),
  };
  const trainer = new Trainer(options);
  const start = (id: string, tenant = "tenant", weight = 1) => {
    const own: JobEvent[] = [];
    events.set(id, own);
    const job = { id, tenant: { id: tenant, weight }, spec: { passTokens: 4 } } as JobStart;
    trainer.start(job, (event) => own.push(event));
  };
  const types = (id: string) => events.get(id)!.map(({ type }) => type);
  return { trainer, start, types, events, log, spent, kernels, ran, clock };
}

function checkpointAt(step: number): JobEvent {
  return { type: "checkpoint", checkpoint: { step, values: {}, arrays: {} }, adapter: { modules: [] } };
}

/** Runs at most so many units; returns how many there were. */
async function runUnits(trainer: Pick<Trainer, "next">, most = Number.POSITIVE_INFINITY): Promise<number> {
  let units = 0;
  for (; units < most; units++) {
    const unit = trainer.next();
    if (unit === null) break;
    await unit.run();
  }
  return units;
}

test("a job runs to its end; the kernel is opened for the first one and closed after the last", async () => {
  const { trainer, start, types, kernels } = startScene({ a: { steps: 2 }, b: { steps: 1 } });
  assert.equal(trainer.next(), null);
  start("a");
  start("b", "other");
  assert.deepEqual(kernels, { opened: 0, closed: 0 });
  assert.equal(await runUnits(trainer), 1 + 4 + 1 + 2); // each has a first one in which it is opened
  assert.deepEqual(types("a"), ["started", "finished"]);
  assert.deepEqual(types("b"), ["started", "finished"]);
  await trainer.close();
  assert.deepEqual(kernels, { opened: 1, closed: 1 });
});

test("a kernel is opened again for jobs that come later", async () => {
  const { trainer, start, types, kernels } = startScene({ a: { steps: 1 }, b: { steps: 1 } });
  start("a");
  await runUnits(trainer);
  start("b");
  await runUnits(trainer);
  assert.deepEqual(types("b"), ["started", "finished"]);
  assert.deepEqual(kernels, { opened: 2, closed: 2 });
});

test("time is shared between tenants by weight, whatever their units take, and inside a tenant by job", async (t) => {
  const endless = { steps: 1e9 };
  const works = {
    slow: { ...endless, unitMs: 3 },
    "quick 1": { ...endless, unitMs: 1 },
    "quick 2": { ...endless, unitMs: 0.5 },
    heavy: { ...endless, unitMs: 2 },
  };
  const { trainer, start, ran, clock } = startScene(works);
  t.mock.method(performance, "now", () => clock.ms);
  start("slow", "one");
  start("quick 1", "two");
  start("quick 2", "two");
  start("heavy", "three", 2);
  await runUnits(trainer, 300);
  const two = ran.get("quick 1")! + ran.get("quick 2")!;
  const close = (one: number, other: number) => Math.abs(one - other) <= 6; // two of the longest units
  assert.ok(close(ran.get("slow")!, two), `${ran.get("slow")} and ${two}`);
  assert.ok(close(ran.get("quick 1")!, ran.get("quick 2")!));
  assert.ok(close(ran.get("heavy")!, 2 * two), `${ran.get("heavy")} and twice ${two}`);
  await trainer.close();
});

test("a tenant that comes later does not get the time back that the others had", async (t) => {
  const { trainer, start, log, clock } = startScene({
    early: { steps: 1e9, unitMs: 1 },
    late: { steps: 1e9, unitMs: 1 },
  });
  t.mock.method(performance, "now", () => clock.ms);
  start("early", "one");
  await runUnits(trainer, 30);
  start("late", "two");
  log.length = 0;
  await runUnits(trainer, 20);
  assert.ok(log.filter((id) => id === "early").length >= 9, log.join());
  await trainer.close();
});

test("dropping is silent; pausing reports, also for a job that has not begun; both free the turn", async () => {
  const works = { a: { steps: 9 }, b: { steps: 9 }, c: { steps: 1 }, d: { steps: 9 } };
  const { trainer, start, types, kernels } = startScene(works);
  for (const id of ["a", "b", "d"]) start(id);
  await runUnits(trainer, 6); // in the middle of steps
  trainer.drop("a");
  trainer.pause("b");
  trainer.pause("unheard of");
  start("c");
  trainer.pause("c");
  assert.deepEqual(types("a"), ["started"]);
  assert.deepEqual(types("b"), ["started", "paused"]);
  assert.deepEqual(types("c"), ["paused"]);
  trainer.drop("d");
  assert.equal(trainer.next(), null);
  await trainer.close();
  assert.deepEqual(kernels, { opened: 1, closed: 1 });
});

test("a pause has the next units, keeps its memory until it ends, and happens once", async () => {
  const works = {
    "pausing 600": { steps: 9, pauseUnits: 3, checkpoints: true },
    "other 300": { steps: 9 },
    "waiting 600": { steps: 9 },
  };
  const { trainer, start, types, log } = startScene(works);
  for (const id of Object.keys(works)) start(id, id);
  await runUnits(trainer, 4);
  log.length = 0;
  for (const _ of [1, 2]) trainer.pause("pausing 600");
  for (const done of [0, 1, 2]) {
    assert.deepEqual(types("pausing 600"), ["started"]);
    assert.deepEqual([trainer.next()!.isPausing, trainer.stats().waitingJobs, log.length], [true, 1, done]);
    await runUnits(trainer, 1);
  }
  assert.deepEqual(log, Array(3).fill("pause pausing 600"));
  assert.deepEqual(types("pausing 600"), ["started", "checkpoint", "paused"]);
  assert.deepEqual([trainer.next()!.isPausing, trainer.stats().waitingJobs], [false, 0]);
  await trainer.close();
});

test("a pause that has begun waits for the checkpoint before it to be taken, and can be dropped", async () => {
  const works = Object.fromEntries(
    ["a", "b"].map((id) => [id, { steps: 9, pauseUnits: 1, checkpoints: true }]),
  );
  const { trainer, start, types } = startScene(works);
  for (const id of ["a", "b"]) start(id);
  await runUnits(trainer);
  for (const id of ["a", "b"]) trainer.pause(id);
  assert.equal(trainer.next(), null);
  trainer.drop("b");
  trainer.taken("a");
  await runUnits(trainer);
  assert.deepEqual(types("a"), ["started", "checkpoint", "checkpoint", "paused"]);
  assert.deepEqual(types("b"), ["started", "checkpoint"]);
  assert.deepEqual(trainer.stats(), { jobs: 0, waitingJobs: 0, memoryBytes: 0 });
  await trainer.close();
});

test("a unit that throws fails its job, with its code, and no other", async () => {
  const works = {
    good: { steps: 3 },
    bad: {
      steps: 3,
      fail: () => {
        throw new Error("no");
      },
    },
    coded: {
      steps: 3,
      fail: () => {
        throw new CotenantError("a_code", "so it is");
      },
    },
  };
  const { trainer, start, types, events } = startScene(works);
  for (const id of ["good", "bad", "coded"]) start(id);
  await runUnits(trainer);
  assert.deepEqual(types("good"), ["started", "finished"]);
  assert.deepEqual(events.get("bad")!.at(-1), {
    type: "failed",
    code: "training_failed",
    message: "the finetuning job failed: no",
  });
  assert.deepEqual(events.get("coded")!.at(-1), { type: "failed", code: "a_code", message: "so it is" });
});

test("the same id twice at once is refused", async () => {
  const { trainer, start, events } = startScene({ a: { steps: 1 } });
  start("a");
  start("a");
  assert.deepEqual(
    events.get("a")!.map((event) => event.type === "failed" && event.code),
    ["duplicate_job"],
  );
  assert.equal(await runUnits(trainer), 3);
});

test("who needs more memory than there is fails with both numbers; others wait in order", async () => {
  const works = {
    "x 1001": { steps: 1 },
    "a 600": { steps: 2 },
    "b 600": { steps: 1 },
    "c 100": { steps: 1 },
  };
  const { trainer, start, types, events, log } = startScene(works);
  for (const id of Object.keys(works)) start(id);
  const failure = events.get("x 1001")![0]!;
  assert.ok(failure.type === "failed" && failure.code === "training_memory_exceeded");
  assert.match(failure.message, /1001 bytes.*1000/);
  assert.deepEqual(trainer.stats(), { jobs: 1, waitingJobs: 2, memoryBytes: 600 }); // c could pass b, and does not
  await runUnits(trainer);
  assert.equal(log.lastIndexOf("a 600"), 3); // before the others began
  assert.deepEqual(types("b 600"), ["started", "finished"]);
});

test("a job has no turn while a checkpoint of it is untaken; others go on, and it earns no credit", async (t) => {
  const works = {
    keeping: { steps: 3, checkpoints: true, unitMs: 1 },
    other: { steps: 1e9, unitMs: 1 },
  };
  const { trainer, start, types, log, clock } = startScene(works);
  t.mock.method(performance, "now", () => clock.ms);
  start("keeping", "one");
  assert.equal(await runUnits(trainer), 3); // opened, and one step
  assert.deepEqual(types("keeping"), ["started", "checkpoint"]);
  assert.deepEqual(trainer.stats().jobs, 1);
  start("other", "two");
  await runUnits(trainer, 40);
  trainer.taken("keeping");
  trainer.taken("keeping"); // told twice counts once
  log.length = 0;
  await runUnits(trainer, 4);
  assert.deepEqual(log.toSorted(), ["keeping", "keeping", "other", "other"]);
  await runUnits(trainer, 20);
  assert.deepEqual(types("keeping"), ["started", "checkpoint", "checkpoint"]);
  trainer.taken("unheard of");
  trainer.pause("keeping"); // needs nobody to take anything
  assert.deepEqual(types("keeping").slice(-2), ["checkpoint", "paused"]);
  await trainer.close();
});

test("closed while a checkpoint is untaken, and started again, a job has its turns", async () => {
  const { trainer, start, types } = startScene({ a: { steps: 2, checkpoints: true } });
  start("a");
  await runUnits(trainer);
  trainer.drop("a");
  start("a");
  await runUnits(trainer);
  assert.deepEqual(types("a"), ["started", "checkpoint"]);
  await trainer.close();
});

test("a kernel that does not close keeps no later job from its own", async () => {
  const works = { a: { steps: 1 }, b: { steps: 1 } };
  const { trainer, start, types } = startScene(works, 1000, () => Promise.reject(new Error("no")));
  for (const id of ["a", "b"]) {
    start(id);
    await runUnits(trainer);
    assert.deepEqual(types(id), ["started", "finished"]);
  }
  await trainer.close();
});

test("another tenant's job that fits passes one that does not, eight times at most", async () => {
  const small = Array.from({ length: 12 }, (_, index) => `small${index} 100`);
  const works = Object.fromEntries(["holding 600", "big 600", ...small].map((id) => [id, { steps: 1e9 }]));
  const { trainer, start, types, events } = startScene(works);
  start("holding 600", "first");
  start("big 600", "second");
  for (const [index, id] of small.entries()) {
    start(id, `tenant ${index}`);
    if (trainer.stats().waitingJobs > 1) break;
    await runUnits(trainer, 30);
    trainer.drop(id);
  }
  const begun = small.filter((id) => (events.get(id)?.length ?? 0) > 0);
  assert.equal(begun.length, 8);
  trainer.drop("holding 600");
  await runUnits(trainer, 40);
  assert.deepEqual(types("big 600"), ["started"]);
  await trainer.close();
});

test("memory that is spent on speed is given back before another job begins, pass by pass", async () => {
  const works = { "a 400": { steps: 4 }, "b 400": { steps: 4 } };
  const { trainer, start, spent, log } = startScene(works, 830);
  start("a 400");
  await runUnits(trainer, 2); // opened, and the forward unit of its first pass
  const alone = spent.at(-1)!;
  assert.deepEqual(alone, { keptBytes: 40, widenedBytes: 390 }); // 4 tokens of 10 bytes; the rest of 430
  start("b 400");
  assert.equal(trainer.stats().waitingJobs, 1); // the pass under way still holds 40
  assert.deepEqual(spent.at(-1), { keptBytes: 11, widenedBytes: 8 });
  await runUnits(trainer);
  assert.ok(log.indexOf("b 400") >= 2 && log.indexOf("b 400") < log.lastIndexOf("a 400"));
});

test("a job without gradients takes nothing of the memory that is spent on speed", async () => {
  const works = { "forward 100": { steps: 9, backward: false }, "lora 400": { steps: 9 } };
  const { trainer, start, spent } = startScene(works, 530);
  start("forward 100");
  await runUnits(trainer, 2);
  assert.deepEqual(spent.at(-1), { keptBytes: 0, widenedBytes: 0 });
  start("lora 400");
  await runUnits(trainer, 2);
  assert.deepEqual(spent.at(-1), { keptBytes: 22, widenedBytes: 8 }); // three quarters of the 30 that are left
  await trainer.close();
});

test("jobs that come, go and are dropped never have more memory than there is, and none waits without need", async () => {
  const job = fc.record({ bytes: fc.integer({ min: 0, max: 1000 }), steps: fc.integer({ min: 1, max: 4 }) });
  const act = fc.oneof(
    fc.record({ type: fc.constant("start" as const), job }),
    fc.record({ type: fc.constant("run" as const), units: fc.integer({ min: 1, max: 6 }) }),
    fc.record({ type: fc.constant("end" as const), pick: fc.nat(), isDrop: fc.boolean() }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(act, { maxLength: 25 }), async (acts) => {
      const works: Record<string, Work> = {};
      const { trainer, start, events, spent } = startScene(works);
      const isOver = (id: string) =>
        events.get(id)!.some(({ type }) => type === "finished" || type === "paused" || type === "failed");
      const dropped = new Set<string>();
      const check = () => {
        const { jobs, waitingJobs, memoryBytes } = trainer.stats();
        const last = spent.at(-1) ?? { keptBytes: 0, widenedBytes: 0 };
        assert.ok(memoryBytes <= 1000 && last.keptBytes >= 0 && last.widenedBytes >= 0);
        if (jobs > 0) assert.ok(memoryBytes + jobs * last.keptBytes + last.widenedBytes <= 1000);
        if (waitingJobs > 0) assert.ok(jobs > 0);
      };
      for (const [index, one] of acts.entries()) {
        if (one.type === "start") {
          const id = `${index} ${one.job.bytes}`;
          works[id] = { steps: one.job.steps, pauseUnits: one.job.bytes % 3 };
          start(id, `tenant ${index % 3}`);
        } else if (one.type === "run") {
          await runUnits(trainer, one.units);
        } else if (events.size > 0) {
          const id = [...events.keys()][one.pick % events.size]!;
          if (one.isDrop) dropped.add(id);
          if (one.isDrop) trainer.drop(id);
          else trainer.pause(id);
        }
        check();
      }
      await runUnits(trainer);
      for (const id of events.keys()) assert.ok(dropped.has(id) || isOver(id), id);
      await trainer.close();
    }),
    { numRuns: 200 },
  );
});
