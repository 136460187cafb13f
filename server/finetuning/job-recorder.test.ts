import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { createLogger } from "../logger.ts";
import { JobCheckpoints } from "./job-checkpoints.ts";
import { adapterOf, fixtureJob } from "./job-fixture.ts";
import { JobRecorder } from "./job-recorder.ts";
import { folder } from "./job-scene.ts";
import { openJobStore } from "./job-store.ts";

test("a checkpoint that was published before it was validated gets its losses afterwards", async (context) => {
  const directory = folder(context);
  const logger = createLogger("silent");
  const store = openJobStore({ path: join(directory, "jobs.sqlite"), baseFingerprint: "base", logger });
  context.after(() => store.close());
  const job = fixtureJob({ status: "running", steps: 4 });
  store.save(job);
  let published = 0;
  const open = () => {
    const recorder = new JobRecorder(job.id, {
      store,
      checkpoints: new JobCheckpoints(join(directory, "checkpoints")),
      publisher: { publish: async () => ({ id: "a", version: `v${++published}` }) as never },
      ledgers: { keep: async () => {} },
      keepSteps: async () => {},
      metrics: { observeCheckpoint: () => {}, observeLoss: () => {}, forgetLoss: () => {} },
    });
    recorder.begin();
    return recorder;
  };
  const checkpoint = { step: 2, values: {}, arrays: {} };
  const paused = open();
  const measured = { tokens: 1, learningRate: 0.1, gradientNorm: null, skipped: false, metrics: {} };
  paused.step({ type: "step", step: 2, loss: 0.5, ...measured });
  await paused.checkpoint(checkpoint, adapterOf(1), true);
  assert.deepEqual(store.checkpoint(job.id, 2)!.metrics, { step: 2, train_loss: 0.5 });
  const resumed = open();
  resumed.validation({ type: "validation", step: 2, loss: 0.75, metrics: {} });
  await resumed.checkpoint(checkpoint, adapterOf(1), false);
  const { metrics, version } = store.checkpoint(job.id, 2)!;
  assert.deepEqual(metrics, { step: 2, train_loss: 0.5, valid_loss: 0.75 });
  assert.deepEqual([version, published], ["v1", 1]);
});
