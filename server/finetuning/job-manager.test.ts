// Jobs over an engine whose training everybody can repeat: what interrupts them, and what they end with. The real
// engine is in tests/server/fine-tuning.test.ts.

import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { AdapterError } from "../../kernels/errors.ts";
import { EngineRestartingError } from "../errors.ts";
import { QuotaExceededError } from "../tenancy/errors.ts";
import { defaultTenant, noQuotas, type Tenant } from "../tenancy/tenant.ts";
import { JobCheckpoints } from "./job-checkpoints.ts";
import { FixtureEngine, fixtureJob, fixturePlan, fixtureSpec, valueAfter } from "./job-fixture.ts";
import { folder, noExamples, openScene, type Published, type Scene } from "./job-manager-fixture.ts";
import { isOver, type JobRecord } from "./job-record.ts";
import { Suspects } from "./suspects.ts";

const never = new AbortController().signal;

/** What six steps with a checkpoint every two come to. */
function assertWhole({ published, store, directory }: Scene): void {
  assert.equal(published.get("ft-tiny-x-1"), valueAfter(6));
  const rows = store.checkpoints("ftjob-1", { after: null, limit: 10 }).items;
  assert.deepEqual(
    rows.map(({ step, version, metrics }) => [step, version, metrics.train_loss, metrics.valid_loss]),
    [6, 4, 2].map((step) => [step, `v${valueAfter(step)}`, 1 / step, 2 / step]),
  );
  const history = store.history.page("ftjob-1", { after: 0, limit: 10 });
  assert.deepEqual(
    history.map(({ step, trainLoss }) => [step, trainLoss]),
    [1, 2, 3, 4, 5, 6].map((step) => [step, 1 / step]),
  );
  assert.equal(store.history.trainedTokens("ftjob-1"), 60);
  assert.deepEqual(readdirSync(join(directory, "checkpoints")), []);
}

test("a job runs to its end, with every checkpoint published, and tells each step once", async (context) => {
  const scene = await openScene(context, folder(context), new FixtureEngine(6));
  await scene.manager.create(fixtureJob());
  const followed: string[] = [];
  for await (const { message } of scene.manager.followNews("ftjob-1", { after: 0, signal: never })) {
    followed.push(message);
  }
  const later: string[] = [];
  for await (const { message } of scene.manager.followNews("ftjob-1", { after: 3, signal: never })) {
    later.push(message);
  }
  assert.deepEqual(later, followed.slice(3));
  assert.equal((await scene.until(isOver)).status, "succeeded");
  await scene.manager.close(1000);
  assertWhole(scene);
  assert.deepEqual(followed, scene.messages());
  assert.deepEqual(
    followed.filter((message) => message.includes("training loss")),
    [1, 2, 3, 4, 5, 6].map((step) => `Step ${step}/6: training loss=${(1 / step).toFixed(4)}`),
  );
  assert.equal(followed.at(-1), "The job has successfully completed");
});

test("an engine's death costs the steps since the last checkpoint, and its third in a row pauses the job", async (context) => {
  let deaths = 0;
  const fate = (step: number) => (step === 3 && deaths++ < 2 ? new EngineRestartingError(1) : null);
  const engine = new FixtureEngine(6, fate);
  const scene = await openScene(context, folder(context), engine);
  await scene.manager.create(fixtureJob());
  assert.equal((await scene.until(isOver)).status, "succeeded");
  await scene.manager.close(1000);
  assertWhole(scene);
  assert.deepEqual(engine.starts, [0, 2, 2]);

  const dying = new FixtureEngine(6, (step) => (step === 3 ? new EngineRestartingError(1) : null));
  const other = await openScene(context, folder(context), dying);
  await other.manager.create(fixtureJob());
  const job = await other.until(({ status }) => status === "paused");
  assert.equal(job.problem?.code, "engine_failed");
  assert.deepEqual(dying.starts, [0, 2, 2]);
});

test("an interruption is told once, however often the job finds the engine still starting", async (context) => {
  const trained = new FixtureEngine(6, (step) =>
    step === 3 && starts === 1 ? new EngineRestartingError(1) : null,
  );
  let starts = 0;
  const engine = {
    async *train(...args: Parameters<FixtureEngine["train"]>) {
      starts++;
      if (starts === 2 || starts === 3) throw new EngineRestartingError(1);
      yield* trained.train(...args);
    },
  };
  const scene = await openScene(context, folder(context), engine as unknown as FixtureEngine);
  await scene.manager.create(fixtureJob());
  assert.equal((await scene.until(isOver)).status, "succeeded");
  await scene.manager.close(1000);
  assertWhole(scene);
  assert.equal(starts, 4);
  assert.equal(scene.messages().filter((message) => message.startsWith("Interrupted")).length, 1);
});

test("engines that die before a job has begun count too, also over servers, and the third pauses the job", async (context) => {
  const directory = folder(context);
  const isPaused = ({ status }: JobRecord) => status === "paused";
  let deaths = 0;
  const deadly = () => {
    const engine = new FixtureEngine(6);
    engine.prepare = async () => {
      deaths++;
      throw new EngineRestartingError(1);
    };
    return engine;
  };
  const first = await openScene(context, directory, deadly(), { retryMs: 40 });
  await first.manager.create(fixtureJob());
  await first.until(({ engineDeaths }) => engineDeaths === 2);
  await first.manager.close(1000);
  assert.equal(deaths, 2);
  const second = await openScene(context, directory, deadly());
  const paused = await second.until(isPaused);
  assert.equal(paused.problem?.code, "engine_failed");
  assert.equal(deaths, 3);
  await second.manager.resume(defaultTenant, "ftjob-1");
  await second.until(isPaused);
  assert.equal(deaths, 4); // it has to come to a checkpoint first
  await second.manager.close(1000);
  const healed = await openScene(context, directory, new FixtureEngine(6));
  await healed.manager.resume(defaultTenant, "ftjob-1");
  assert.equal((await healed.until(isOver)).engineDeaths, 0);
});

test("a job that kills engines is paused, and nobody else's", async (context) => {
  let deaths = 0;
  const trained = new FixtureEngine(400);
  const engine = {
    pauseTraining: (id: string) => trained.pauseTraining(id),
    async *train(...[start, signal]: Parameters<FixtureEngine["train"]>) {
      const deathsBefore = deaths;
      for await (const event of trained.train(start, signal)) {
        if (start.id === "ftjob-1" && event.type === "step" && event.step === 5) deaths++;
        if (deaths > deathsBefore) throw new EngineRestartingError(1);
        yield event;
      }
    },
  };
  const scene = await openScene(context, folder(context), engine as unknown as FixtureEngine);
  const plan = { ...fixturePlan, spec: { ...fixtureSpec, checkpointSteps: 1000 } };
  const ids = ["ftjob-1", "ftjob-2", "ftjob-3"];
  for (const id of ids)
    await scene.manager.create(fixtureJob({ id, resultId: id, plan, tenant: { ...defaultTenant, id } }));
  assert.equal((await scene.until(({ status }) => status === "paused")).problem?.code, "engine_failed");
  assert.equal(deaths, 3);
  for (const id of ids.slice(1)) {
    assert.equal((await scene.until(isOver, id)).status, "succeeded");
    assert.ok(!scene.messages(id).some((message) => message.includes("paused")));
  }
});

test("a suspect's turn is of its time in the engine, not of the reading of its files", async (context) => {
  const suspects = new Suspects();
  const isTurn = () => !suspects.includes("another");
  const turns: [loading: boolean, inEngine: boolean][] = [];
  let isLoading = false;
  const engine = new FixtureEngine(6);
  engine.prepare = async () => {
    turns.push([isLoading, isTurn()]);
    throw new EngineRestartingError(1);
  };
  const load = async () => {
    isLoading = isTurn();
    return { training: noExamples, validation: null, from: null, examplesHash: "examples" };
  };
  const scene = await openScene(context, folder(context), engine, { suspects, load });
  await scene.manager.create(fixtureJob());
  await scene.until(({ status }) => status === "paused");
  assert.deepEqual(turns, [
    [false, false], // nobody is suspected yet
    [false, true],
    [false, true],
  ]);
  assert.ok(!isTurn());
});

test("a job that waits for its turn after an engine's death can be paused, cancelled and left", async (context) => {
  const directory = folder(context);
  let isDeadly = true;
  const fate = (step: number) => (step === 3 && isDeadly ? new EngineRestartingError(1) : null);
  const engine = new FixtureEngine(1_000_000, fate);
  const gate = Promise.withResolvers<void>();
  engine.hold = gate.promise; // so that all are there when it dies
  const scene = await openScene(context, directory, engine);
  const plan = { ...fixturePlan, spec: { ...fixtureSpec, checkpointSteps: 1_000_000 } };
  const ids = ["ftjob-1", "ftjob-2", "ftjob-3", "ftjob-4"];
  for (const id of ids) await scene.manager.create(fixtureJob({ id, resultId: id, plan }));
  while (engine.startedIds.length < 4) await delay(1);
  gate.resolve();
  for (const id of ids) await scene.until(({ engineDeaths }) => engineDeaths > 0, id);
  isDeadly = false;
  const waiting = ids.filter((id) => engine.startedIds.filter((each) => each === id).length === 1);
  const [first, second] = waiting.length > 1 ? waiting : ids;
  const paused = await scene.manager.pause(defaultTenant, first!);
  assert.deepEqual([paused.status, paused.problem], ["paused", null]);
  assert.equal((await scene.manager.cancel(defaultTenant, second!)).status, "cancelled");
  await scene.manager.close(0);
});

test("a server's end leaves jobs as they are, and the next one goes on: running, queued and paused ones", async (context) => {
  const directory = folder(context);
  const first = await openScene(context, directory, new FixtureEngine(6), { mostAtOnce: 1 });
  await first.manager.create(fixtureJob());
  await first.manager.create(fixtureJob({ id: "ftjob-2", resultId: "ft-2" }));
  await first.manager.create(fixtureJob({ id: "ftjob-3", resultId: "ft-3" }));
  await first.manager.pause(defaultTenant, "ftjob-3");
  await first.until(({ id }) => first.store.history.lastStep(id) >= 3);
  await first.manager.close(1000);
  assert.deepEqual(
    ["ftjob-1", "ftjob-2", "ftjob-3"].map((id) => first.store.get(id)!.status),
    ["running", "queued", "paused"],
  );
  const engine = new FixtureEngine(6);
  const second = await openScene(context, directory, engine);
  for (const id of ["ftjob-1", "ftjob-2"]) assert.equal((await second.until(isOver, id)).status, "succeeded");
  assert.ok(Math.max(...engine.starts) >= 3, `${engine.starts}`); // where the first was stopped, not its last regular checkpoint
  assert.equal(second.published.get("ft-tiny-x-1"), valueAfter(6));
  assert.equal(second.store.history.lastStep("ftjob-1"), 6);
  const ids = second.store.checkpoints("ftjob-1", { after: null, limit: 10 }).items.map(({ step }) => step);
  assert.deepEqual(ids, [6, 4, 2]);
  assert.equal(second.store.get("ftjob-3")!.status, "paused");
});

test("a damaged checkpoint gives way to the one before, and the job says so", async (context) => {
  const directory = folder(context);
  const engine = new FixtureEngine(6, (step) => (step === 5 ? new EngineRestartingError(1e6) : null));
  const first = await openScene(context, directory, engine);
  await first.manager.create(fixtureJob());
  await first.until(() => first.messages().some((message) => message.startsWith("Interrupted")));
  await first.manager.close(1000);
  const checkpoints = join(directory, "checkpoints", "ftjob-1");
  writeFileSync(join(checkpoints, readdirSync(checkpoints).sort().at(-1)!), "damaged");
  const second = await openScene(context, directory, new FixtureEngine(6));
  assert.equal((await second.until(isOver)).status, "succeeded");
  assert.ok(
    second.messages().some((message) => /step-0000000004.* is damaged; .* from step 2$/.test(message)),
  );
  assert.equal(second.published.get("ft-tiny-x-1"), valueAfter(6));
});

test("pause and resume, at every moment, end as if nobody had", async (context) => {
  for (const pauseAt of [0, 1, 2, 3, 4, 5]) {
    const scene = await openScene(context, folder(context), new FixtureEngine(6));
    await scene.manager.create(fixtureJob());
    await scene.until(({ id }) => scene.store.history.lastStep(id) >= pauseAt);
    const paused = await scene.manager.pause(defaultTenant, "ftjob-1");
    if (paused.status === "paused") {
      await assert.rejects(scene.manager.pause(defaultTenant, "ftjob-1"), { code: "job_state" });
      assert.equal((await scene.manager.resume(defaultTenant, "ftjob-1")).problem, null);
    }
    assert.equal((await scene.until(isOver)).status, "succeeded");
    assert.equal(scene.published.get("ft-tiny-x-1"), valueAfter(6));
    await assert.rejects(scene.manager.resume(defaultTenant, "ftjob-1"), { code: "job_state" });
  }
});

test("cancelling ends a job for good, in every state, and what was published stays", async (context) => {
  const scene = await openScene(context, folder(context), new FixtureEngine(1000), { mostAtOnce: 1 });
  for (const id of ["ftjob-1", "ftjob-2", "ftjob-3"])
    await scene.manager.create(fixtureJob({ id, resultId: id }));
  await scene.manager.pause(defaultTenant, "ftjob-3");
  await scene.until(({ id }) => scene.store.history.lastStep(id) > 4);
  for (const id of ["ftjob-2", "ftjob-1", "ftjob-3"]) {
    const job = await scene.manager.cancel(defaultTenant, id);
    assert.deepEqual([job.status, job.finishedAtMs !== null], ["cancelled", true]);
    await assert.rejects(scene.manager.cancel(defaultTenant, id), { code: "job_state" });
  }
  assert.ok(scene.published.has("ftjob-1-ckpt-step-2"));
  assert.deepEqual(readdirSync(join(scene.directory, "checkpoints")), []);
  const steps = scene.store.history.lastStep("ftjob-1");
  await delay(20);
  assert.equal(scene.store.history.lastStep("ftjob-1"), steps);
});

test("a checkpoint that is refused is told and trained past; a result that is refused waits for room", async (context) => {
  const full = new QuotaExceededError("adapters", 1);
  const refuse = ({ isResult }: Published) => (isResult ? null : full);
  const scene = await openScene(context, folder(context), new FixtureEngine(6), { refuse });
  await scene.manager.create(fixtureJob());
  assert.equal((await scene.until(isOver)).status, "succeeded");
  const told = scene.messages().filter((message) => message.includes("was not published"));
  assert.deepEqual(
    told.map((message) => /step (\d+)/.exec(message)![1]),
    ["2", "4"],
  );
  assert.deepEqual([...scene.published.keys()], ["ft-tiny-x-1"]);

  const problems: [Error, code: string][] = [
    [full, "quota_exceeded"],
    [new AdapterError("adapter_larger_than_cache", "large"), "adapter_larger_than_cache"],
    [new TypeError("a bug"), "internal_error"],
  ];
  for (const [problem, code] of problems) {
    let isRoom = false;
    const engine = new FixtureEngine(6);
    const waiting = await openScene(context, folder(context), engine, {
      refuse: ({ isResult }) => (isRoom || !isResult ? null : problem),
    });
    await waiting.manager.create(fixtureJob());
    const paused = await waiting.until(({ status }) => status === "paused");
    assert.equal(paused.problem?.code, code);
    isRoom = true;
    await waiting.manager.resume(defaultTenant, "ftjob-1");
    assert.equal((await waiting.until(isOver)).status, "succeeded");
    assert.deepEqual(engine.starts, [0, 6]); // nothing was trained again
    assert.equal(waiting.published.get("ft-tiny-x-1"), valueAfter(6));
    assert.equal(waiting.store.get("ftjob-1")!.resultVersion, `v${valueAfter(6)}`);
  }
});

test("storage that is away for a while is waited for, by results and by checkpoints", async (context) => {
  for (const value of [valueAfter(6), valueAfter(4)]) {
    let refusals = 0;
    const refuse = (published: Published) =>
      published.value === value && refusals++ < 2 ? new AdapterError("storage_unavailable", "away") : null;
    const scene = await openScene(context, folder(context), new FixtureEngine(6), { refuse });
    await scene.manager.create(fixtureJob());
    assert.equal((await scene.until(isOver)).status, "succeeded");
    await scene.manager.close(1000);
    assertWhole(scene);
  }
});

test("an engine that dies before a job has begun in it is not held against the job", async (context) => {
  let refusals = 0;
  const working = new FixtureEngine(6);
  const engine = {
    async *train(...args: Parameters<FixtureEngine["train"]>) {
      if (refusals++ < 5) throw new EngineRestartingError(1);
      yield* working.train(...args);
    },
    pauseTraining: () => {},
  };
  const scene = await openScene(context, folder(context), engine as unknown as FixtureEngine);
  await scene.manager.create(fixtureJob());
  assert.equal((await scene.until(isOver)).status, "succeeded");
});

test("what may heal pauses a job, which goes on from its checkpoint; what cannot fails it", async (context) => {
  const errors: [Error, code: string][] = [
    [Object.assign(new Error("EMFILE"), { code: "EMFILE" }), "internal_error"],
    [Object.assign(new Error("EIO"), { code: "EIO" }), "internal_error"],
    [Object.assign(new Error("full"), { code: "ERR_SQLITE_ERROR", errcode: 13 }), "storage_full"],
    [Object.assign(new Error("full"), { code: "ENOSPC" }), "storage_full"],
    [new AdapterError("adapter_version_unknown", "gone"), "adapter_version_unknown"],
  ];
  for (const [error, code] of errors) {
    let isBroken = true;
    const engine = new FixtureEngine(6, (step) => (step === 3 && isBroken ? error : null));
    const scene = await openScene(context, folder(context), engine);
    await scene.manager.create(fixtureJob());
    assert.equal((await scene.until(({ status }) => status === "paused")).problem?.code, code);
    isBroken = false;
    await scene.manager.resume(defaultTenant, "ftjob-1");
    assert.equal((await scene.until(isOver)).status, "succeeded");
    assert.deepEqual(engine.starts, [0, 2]);
    await scene.manager.close(1000);
    assertWhole(scene);
  }
});

test("a job that is over is not run again where its checkpoints cannot be removed at once", async (context) => {
  const engine = new FixtureEngine(6);
  const remove = JobCheckpoints.prototype.remove;
  let refusals = 0;
  context.mock.method(JobCheckpoints.prototype, "remove", function (this: JobCheckpoints, id: string) {
    if (refusals++ === 0) return Promise.reject(Object.assign(new Error("EIO"), { code: "EIO" }));
    return remove.call(this, id);
  });
  const scene = await openScene(context, folder(context), engine);
  await scene.manager.create(fixtureJob());
  await scene.until(isOver);
  while (refusals < 2) await delay(1);
  await scene.manager.close(1000);
  assert.deepEqual(engine.starts, [0]);
  assertWhole(scene);
});

test("an end that cannot be written is written later", async (context) => {
  const scene = await openScene(context, folder(context), new FixtureEngine(6));
  const save = scene.store.save.bind(scene.store);
  let refusals = 0;
  context.mock.method(scene.store, "save", (...[job, saving]: Parameters<typeof save>) => {
    const isEnd = job.status === "succeeded" || job.status === "paused";
    if (isEnd && refusals++ < 5) throw new Error("database is locked");
    save(job, saving);
  });
  await scene.manager.create(fixtureJob());
  const ended = await scene.until(({ status }) => status === "succeeded" || status === "paused");
  if (ended.status === "paused") await scene.manager.resume(defaultTenant, "ftjob-1");
  const over = await scene.until(isOver);
  assert.equal(over.status, "succeeded");
  assert.match(over.resultFile!, /^file-[0-9a-f]{32}$/);
  assert.deepEqual(new Set(scene.kept), new Set([over.resultFile])); // however often its end was tried
  await scene.manager.close(1000);
  assertWhole(scene);
});

test("a follower leaves no listener behind", async (context) => {
  const scene = await openScene(context, folder(context), new FixtureEngine(200));
  const added = context.mock.method(AbortSignal.prototype, "addEventListener");
  const removed = context.mock.method(AbortSignal.prototype, "removeEventListener");
  await scene.manager.create(
    fixtureJob({ plan: { ...fixturePlan, spec: { ...fixtureSpec, checkpointSteps: 1000 } } }),
  );
  const before = added.mock.callCount() - removed.mock.callCount();
  const leaving = new AbortController();
  let heard = 0;
  for await (const _ of scene.manager.followNews("ftjob-1", { after: 0, signal: leaving.signal })) {
    heard++;
    scene.store.flush();
    if (heard === 100) break;
  }
  assert.ok(added.mock.callCount() - removed.mock.callCount() - before <= 2);
});

test("a server that closes at once still keeps what was trained", async (context) => {
  const scene = await openScene(context, folder(context), new FixtureEngine(1_000_000));
  await scene.manager.create(
    fixtureJob({ plan: { ...fixturePlan, spec: { ...fixtureSpec, checkpointSteps: 1_000_000 } } }),
  );
  await scene.until(({ id }) => scene.store.history.lastStep(id) >= 5);
  await scene.manager.close(0);
  const { checkpoint } = await new JobCheckpoints(join(scene.directory, "checkpoints")).read("ftjob-1");
  assert.equal(checkpoint?.step, scene.store.history.lastStep("ftjob-1"));
});

test("jobs enter the engine as far as there is memory, and one that never fits is paused", async (context) => {
  const engine = new FixtureEngine(30);
  const scene = await openScene(context, folder(context), engine, { memoryBytes: 100 });
  for (const [n, memoryBytes] of [60, 60, 30, 101].entries())
    await scene.manager.create(
      fixtureJob({ id: `ftjob-${n + 1}`, resultId: `ft-${n + 1}`, plan: { ...fixturePlan, memoryBytes } }),
    );
  await scene.until(({ status }) => status === "running", "ftjob-1");
  await delay(5);
  assert.deepEqual(
    [1, 2, 3].map((n) => scene.store.get(`ftjob-${n}`)!.status),
    ["running", "queued", "queued"], // the third would fit, but passes none of its own tenant's
  );
  for (const n of [1, 2, 3]) assert.equal((await scene.until(isOver, `ftjob-${n}`)).status, "succeeded");
  const paused = await scene.until(({ status }) => status === "paused", "ftjob-4");
  assert.match(paused.problem!.message, /101 bytes, more than the 100 of --training-memory-bytes/);
});

test("a job made before the memory was cut below what the device holds of the base is told so, too", async (context) => {
  const memory = { memoryBytes: 100, sharedBytes: 140 };
  const scene = await openScene(context, folder(context), new FixtureEngine(6), memory);
  await scene.manager.create(fixtureJob({ plan: { ...fixturePlan, memoryBytes: 150 } }));
  const paused = await scene.until(({ status }) => status === "paused");
  assert.equal(paused.problem!.code, "training_memory_exceeded");
});

test("what the engine says of a job ends it: failures, and losses that are not finite", async (context) => {
  const problem = { code: "training_diverged", message: "too many" };
  const paused = await openScene(
    context,
    folder(context),
    new FixtureEngine(6, (step) => (step === 3 ? { type: "paused", reason: problem } : null)),
  );
  await paused.manager.create(fixtureJob());
  assert.deepEqual((await paused.until(({ status }) => status === "paused")).problem, problem);
  const failed = await openScene(
    context,
    folder(context),
    new FixtureEngine(6, () => ({ type: "failed", ...problem })),
  );
  await failed.manager.create(fixtureJob());
  assert.deepEqual((await failed.until(({ status }) => status === "paused")).problem, problem);
  const settings = {
    code: "training_settings_invalid",
    message: "method.adapter.layers_per_step: too many",
  };
  const lost = await openScene(
    context,
    folder(context),
    new FixtureEngine(6, (step) => (step === 3 ? { type: "failed", ...settings } : null)),
  );
  await lost.manager.create(fixtureJob());
  const over = await lost.until(isOver);
  assert.deepEqual([over.status, over.problem], ["failed", settings]);
  await lost.manager.close(1000);
  assert.deepEqual(readdirSync(join(lost.directory, "checkpoints")), []);
});

test("other examples than at the start, or a bug, pause a job and not the server", async (context) => {
  const isPaused = ({ status }: JobRecord) => status === "paused";
  const scene = await openScene(context, folder(context), new FixtureEngine(6));
  await scene.manager.create(fixtureJob({ plan: { ...fixturePlan, examplesHash: "others" } }));
  assert.equal((await scene.until(isPaused)).problem?.code, "training_data_changed");
  const broken = await openScene(context, folder(context), new FixtureEngine(6), {
    load: () => Promise.reject(new TypeError("a bug")),
  });
  await broken.manager.create(fixtureJob());
  assert.equal((await broken.until(isPaused)).problem?.code, "internal_error");
});

test("a tenant has as many jobs as its quota, and others' jobs are none of its business", async (context) => {
  const scene = await openScene(context, folder(context), new FixtureEngine(1000));
  const tenant: Tenant = { ...defaultTenant, id: "acme", quotas: { ...noQuotas, jobs: 1 } };
  await scene.manager.create(fixtureJob({ tenant }));
  await assert.rejects(scene.manager.create(fixtureJob({ id: "ftjob-2", tenant })), {
    code: "rate_limit_exceeded",
    message: /You have 1 finetuning jobs .* your limit is 1/,
  });
  await scene.manager.create(fixtureJob({ id: "ftjob-3" }));
  for (const action of ["pause", "resume", "cancel"] as const) {
    await assert.rejects(scene.manager[action](defaultTenant, "ftjob-1"), { code: "job_not_found" });
  }
  await scene.manager.cancel(tenant, "ftjob-1");
  await scene.manager.create(fixtureJob({ id: "ftjob-2", tenant }));
});

test("the adapter that a job continues from is in use until it is over, also after a restart", async (context) => {
  const directory = folder(context);
  const parent = { id: "p", version: "v" };
  const first = await openScene(context, directory, new FixtureEngine(1000));
  await first.manager.create(fixtureJob({ parent }));
  assert.ok(first.uses.isUsedBy("v", "default"));
  await first.manager.pause(defaultTenant, "ftjob-1");
  await first.manager.close(1000);
  const second = await openScene(context, directory, new FixtureEngine(1000));
  assert.ok(second.uses.isUsedBy("v", "default"));
  await second.manager.cancel(defaultTenant, "ftjob-1");
  assert.ok(!second.uses.isUsed("v"));
});

test("a tenant has some of the places, and others find one at once", async (context) => {
  const scene = await openScene(context, folder(context), new FixtureEngine(1000), {
    mostAtOnce: 3,
    mostOfTenant: 2,
  });
  const acme = { ...defaultTenant, id: "acme" };
  for (const n of [1, 2, 3]) await scene.manager.create(fixtureJob({ id: `ftjob-${n}`, tenant: acme }));
  await scene.manager.create(fixtureJob({ id: "ftjob-4" }));
  await scene.until(({ status }) => status === "running", "ftjob-4");
  assert.equal(scene.store.get("ftjob-3")!.status, "queued");
  await scene.manager.cancel(acme, "ftjob-1");
  await scene.until(({ status }) => status === "running", "ftjob-3");
});

test("a job that waits for memory is passed by other tenants', eight times at most, and who holds least by weight is next", async (context) => {
  const engine = new FixtureEngine(1000);
  const scene = await openScene(context, folder(context), engine, { memoryBytes: 100 });
  const create = (id: string, tenant: Tenant, memoryBytes: number) =>
    scene.manager.create(fixtureJob({ id, resultId: id, tenant, plan: { ...fixturePlan, memoryBytes } }));
  const [acme, globex] = ["acme", "globex"].map((id) => ({ ...defaultTenant, id }));
  const heavy = { ...defaultTenant, id: "heavy", weight: 4 };
  await create("first", acme!, 60);
  await create("large", globex!, 50);
  for (let n = 1; n <= 9; n++) {
    await create(`small-${n}`, { ...defaultTenant, id: `other-${n}` }, 1);
    await delay(1);
  }
  assert.deepEqual(engine.startedIds, ["first", ...[1, 2, 3, 4, 5, 6, 7, 8].map((n) => `small-${n}`)]);
  await create("of-acme", acme!, 20);
  await create("of-heavy", heavy, 30);
  await scene.manager.cancel(acme!, "first"); // 8 are taken, and 50 more by the large one
  await scene.until(({ status }) => status === "running", "small-9");
  assert.deepEqual(engine.startedIds.slice(9, 10), ["large"]);
  await create("of-heavy-2", heavy, 30);
  await create("of-acme-2", acme!, 30);
  await scene.manager.cancel(globex!, "large");
  await scene.until(({ status }) => status === "running", "of-heavy-2");
  assert.ok(!engine.startedIds.includes("of-acme-2"), `${engine.startedIds}`);
});

test("memory that all jobs share is counted once", async (context) => {
  const engine = new FixtureEngine(1000);
  const scene = await openScene(context, folder(context), engine, { memoryBytes: 100, sharedBytes: 40 });
  const plan = { ...fixturePlan, memoryBytes: 70 }; // 30 of its own
  for (const id of ["one", "two", "three"])
    await scene.manager.create(fixtureJob({ id, resultId: id, plan }));
  for (const id of ["one", "two"]) await scene.until(({ status }) => status === "running", id);
  await delay(5);
  assert.equal(scene.store.get("three")!.status, "queued");
});

test("a job is paused, cancelled or left at once while its files are read for the engine", async (context) => {
  const loads: AbortSignal[] = [];
  const load = (_: JobRecord, signal: AbortSignal): Promise<never> => {
    loads.push(signal);
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  };
  const scene = await openScene(context, folder(context), new FixtureEngine(6), { load });
  for (const id of ["ftjob-1", "ftjob-2", "ftjob-3"]) await scene.manager.create(fixtureJob({ id }));
  while (loads.length < 3) await delay(1);
  const paused = await scene.manager.pause(defaultTenant, "ftjob-1");
  assert.deepEqual([paused.status, paused.problem], ["paused", null]);
  assert.equal((await scene.manager.cancel(defaultTenant, "ftjob-2")).status, "cancelled");
  await scene.manager.close(60_000);
  assert.equal(scene.store.get("ftjob-3")!.status, "queued");
});

test("a pause keeps what was trained where its checkpoint cannot be published", async (context) => {
  const away = new AdapterError("storage_unavailable", "away");
  const engine = new FixtureEngine(1_000_000);
  const scene = await openScene(context, folder(context), engine, { refuse: () => away });
  const plan = { ...fixturePlan, spec: { ...fixtureSpec, checkpointSteps: 1_000_000 } };
  await scene.manager.create(fixtureJob({ plan }));
  await scene.until(({ id }) => scene.store.history.lastStep(id) >= 5);
  await scene.manager.pause(defaultTenant, "ftjob-1");
  const { checkpoint } = await new JobCheckpoints(join(scene.directory, "checkpoints")).read("ftjob-1");
  assert.equal(checkpoint?.step, scene.store.history.lastStep("ftjob-1"));
});

test("the tenant with the fewest jobs in the engine is next", async (context) => {
  const engine = new FixtureEngine(3);
  const gate = Promise.withResolvers<void>();
  engine.hold = gate.promise; // nobody ends before all are there
  const scene = await openScene(context, folder(context), engine, { mostAtOnce: 2 });
  const acme = { ...defaultTenant, id: "acme" };
  const ids = [1, 2, 3].map((n) => `ftjob-${n}`);
  for (const id of ids) await scene.manager.create(fixtureJob({ id, tenant: acme }));
  await scene.manager.create(fixtureJob({ id: "ftjob-4" }));
  gate.resolve();
  for (const id of [...ids, "ftjob-4"]) await scene.until(({ status }) => status === "succeeded", id);
  assert.deepEqual(engine.startedIds, ["ftjob-1", "ftjob-2", "ftjob-4", "ftjob-3"]);
});
