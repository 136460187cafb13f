import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { AdapterError } from "../../kernels/errors.ts";
import { createLogger } from "../logger.ts";
import { JobCheckpoints } from "./job-checkpoints.ts";
import { adapterOf, fixtureJob } from "./job-fixture.ts";
import { folder } from "./job-manager-fixture.ts";
import { JobRecorder, type JobRecorderOptions } from "./job-recorder.ts";
import { openJobStore } from "./job-store.ts";

/** A job of four steps that runs, and what records it. */
function openRunning(context: TestContext, options: Partial<JobRecorderOptions> = {}) {
  const directory = folder(context);
  const open = () => {
    const logger = createLogger("silent");
    const store = openJobStore({ path: join(directory, "jobs.sqlite"), baseFingerprint: "base", logger });
    context.after(() => store.close());
    return store;
  };
  const store = open();
  const job = fixtureJob({ status: "running", steps: 4 });
  store.save(job);
  const record = () => {
    const recorder = new JobRecorder(job.id, {
      store,
      checkpoints: new JobCheckpoints(join(directory, "checkpoints")),
      publisher: { publish: async () => assert.fail("it was published") },
      ledgers: { keep: async () => {} },
      keepSteps: async () => {},
      metrics: { observeCheckpoint: () => {}, observeLoss: () => {}, forgetLoss: () => {} },
      ...options,
    });
    recorder.begin();
    return recorder;
  };
  return { job, store, open, record };
}

const measured = { tokens: 1, learningRate: 0.1, gradientNorm: null, skipped: false, metrics: {} };

test("a checkpoint's steps are written down before it is, whether it is published or not", async (context) => {
  const away = async () => Promise.reject(new AdapterError("storage_unavailable", "away"));
  for (const [step, isAsked] of [
    [1, false],
    [1, true],
    [4, false],
  ] as const) {
    const known: number[] = [];
    const checkpoints = {
      write: async () => {
        known.push(running.open().history.lastStep(running.job.id)); // as the next server would
        return 1;
      },
    } as Partial<JobCheckpoints> as JobCheckpoints;
    const running = openRunning(context, { checkpoints, publisher: { publish: away } });
    const recorder = running.record();
    recorder.step({ type: "step", step, loss: 0.5, ...measured });
    const kept = recorder.checkpoint({ step, values: {}, arrays: {} }, adapterOf(1), isAsked);
    await kept.catch(({ code }) => assert.equal(code, "storage_unavailable"));
    assert.deepEqual(known, [step]);
  }
});

test("a checkpoint that was published before it was validated gets its losses afterwards", async (context) => {
  let published = 0;
  const publish = async () => ({ id: "a", version: `v${++published}` }) as never;
  const { job, store, record } = openRunning(context, { publisher: { publish } });
  const checkpoint = { step: 2, values: {}, arrays: {} };
  const paused = record();
  paused.step({ type: "step", step: 2, loss: 0.5, ...measured });
  await paused.checkpoint(checkpoint, adapterOf(1), true);
  assert.deepEqual(store.checkpoint(job.id, 2)!.metrics, { step: 2, train_loss: 0.5 });
  const resumed = record();
  resumed.validation({ type: "validation", step: 2, loss: 0.75, metrics: {} });
  await resumed.checkpoint(checkpoint, adapterOf(1), false);
  const { metrics, version } = store.checkpoint(job.id, 2)!;
  assert.deepEqual(metrics, { step: 2, train_loss: 0.5, valid_loss: 0.75 });
  assert.deepEqual([version, published], ["v1", 1]);
});
