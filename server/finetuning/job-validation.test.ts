// Jobs whose files are validated after they were made: what becomes of them, and what others see meanwhile.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AdapterError } from "../../kernels/errors.ts";
import { defaultTenant } from "../tenancy/tenant.ts";
import { FixtureEngine, fixtureJob, fixturePlan } from "./job-fixture.ts";
import { folder, openScene } from "./job-manager-fixture.ts";
import { isOver, type JobPlan, type JobRecord } from "./job-record.ts";
import { InvalidTrainingFileError } from "./training-file-errors.ts";

const draft = (changes: Partial<JobRecord> = {}) =>
  fixtureJob({ status: "validating_files", plan: null, ...changes });

/** Validates when it is told to. */
function gate() {
  const open = Promise.withResolvers<JobPlan>();
  let asked = 0;
  return {
    plan: (_: JobRecord, signal: AbortSignal) => {
      asked++;
      const aborted = new Promise<never>((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason)),
      );
      return Promise.race([open.promise, aborted]);
    },
    open: () => open.resolve(fixturePlan),
    asked: () => asked,
  };
}

test("a job is validated, queued and run, and says so", async (context) => {
  const { plan, open } = gate();
  const scene = await openScene(context, folder(context), new FixtureEngine(6), { plan });
  const made = await scene.manager.create(draft());
  assert.equal(made.status, "validating_files");
  assert.deepEqual(scene.store.claims.reserved("default"), { adapters: 1, sizeBytes: 4 });
  open();
  assert.equal((await scene.until(isOver)).status, "succeeded");
  assert.deepEqual(scene.messages().slice(0, 3), [
    "Created fine-tuning job: ftjob-1",
    "Validating training file: file-1",
    "Files validated, moving job to queued state",
  ]);
});

test("what is wrong with the files fails the job by the field, and it holds nothing any more", async (context) => {
  const problem = new InvalidTrainingFileError("line 3: has nothing to learn");
  const scene = await openScene(context, folder(context), new FixtureEngine(6), {
    plan: () => Promise.reject(problem),
  });
  await scene.manager.create(draft({ parent: { id: "p", version: "v" } }));
  const { status, problem: told, finishedAtMs } = await scene.until(isOver);
  assert.deepEqual([status, finishedAtMs !== null], ["failed", true]);
  assert.deepEqual(told, {
    code: "invalid_training_file",
    message: "line 3: has nothing to learn",
    param: "file",
  });
  await scene.manager.close(0);
  assert.equal(scene.store.claims.jobUsing("file-1"), null);
  assert.deepEqual(scene.store.claims.reserved("default"), { adapters: 0, sizeBytes: 0 });
  assert.ok(!scene.uses.isUsed("v"));
});

test("storage that is away is waited for; a bug pauses the job, which is validated again when it goes on", async (context) => {
  const failures: Error[] = [new AdapterError("storage_unavailable", "away"), new TypeError("a bug")];
  const scene = await openScene(context, folder(context), new FixtureEngine(6), {
    plan: async () => {
      const failure = failures.shift();
      if (failure) throw failure;
      return fixturePlan;
    },
  });
  await scene.manager.create(draft());
  const paused = await scene.until(({ status }) => status === "paused");
  assert.equal(paused.problem?.code, "internal_error");
  assert.equal((await scene.manager.resume(defaultTenant, "ftjob-1")).problem, null);
  assert.equal((await scene.until(isOver)).status, "succeeded");
});

test("a server's end, a pause and a cancel find a job in the middle of its validation", async (context) => {
  const directory = folder(context);
  const first = await openScene(context, directory, new FixtureEngine(6), gate());
  for (const id of ["ftjob-1", "ftjob-2", "ftjob-3"]) await first.manager.create(draft({ id, resultId: id }));
  const paused = await first.manager.pause(defaultTenant, "ftjob-2");
  assert.equal(paused.status, "paused");
  assert.equal((await first.manager.cancel(defaultTenant, "ftjob-3")).status, "cancelled");
  await first.manager.close(0);
  assert.equal(first.store.get("ftjob-1")!.status, "validating_files");

  const { plan, open, asked } = gate();
  const second = await openScene(context, directory, new FixtureEngine(6), { plan });
  assert.equal(asked(), 1);
  assert.equal((await second.manager.resume(defaultTenant, "ftjob-2")).status, "validating_files");
  open();
  for (const id of ["ftjob-1", "ftjob-2"]) assert.equal((await second.until(isOver, id)).status, "succeeded");
});
