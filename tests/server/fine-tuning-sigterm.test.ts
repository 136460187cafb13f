// SIGTERM to a server process that trains: the steps since the last checkpoint are not lost.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import OpenAI from "openai";
import { JobCheckpoints } from "../../server/finetuning/job-checkpoints.ts";
import { JobDatabase } from "../../server/finetuning/job-database.ts";
import { JobHistory } from "../../server/finetuning/job-history.ts";
import { openJobTables } from "../../server/finetuning/job-tables.ts";
import { chatLines, smallMethod, untilJob, uploadLines } from "./fine-tuning-scene.ts";
import { startChild } from "./server-child.ts";

test("SIGTERM writes a checkpoint of the last step, and the job stays one that goes on", async () => {
  await using server = await startChild(["--drain-seconds", "30"]);
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
  const training_file = await uploadLines(client, chatLines("ticket-router", 8));
  const hyperparameters = { n_epochs: 1000, batch_size: 4, checkpoint_steps: 10_000 } as object;
  const method = { ...smallMethod, supervised: { hyperparameters } };
  const { id } = await client.fineTuning.jobs.create({ model: "cotenant-tiny", training_file, method });
  await untilJob(client, id, ({ trained_tokens }) => trained_tokens! > 1000);
  server.process.kill("SIGTERM");
  assert.equal(await server.exited, 0);
  const folder = join(server.dataDirectory, "fine-tuning");
  assert.deepEqual(readdirSync(join(folder, "checkpoints")), [id]);
  const { checkpoint } = await new JobCheckpoints(join(folder, "checkpoints")).read(id);
  const path = join(folder, "jobs.sqlite");
  const database = new JobDatabase(openJobTables(path), path);
  try {
    const lastStep = new JobHistory(database).lastStep(id);
    assert.ok(lastStep > 2);
    assert.equal(checkpoint?.step, lastStep);
    const { status } = database.prepared("SELECT status FROM jobs WHERE id = ?").get(id)!;
    assert.equal(status, "running");
  } finally {
    database.close();
  }
});
