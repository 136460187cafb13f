// A job's files through the official openai client: large ones are validated once the job is there, and what a job tells
// of its steps is a file of its tenant.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import OpenAI from "openai";
import { chatLines, smallMethod, untilJob, uploadLines } from "./fine-tuning-scene.ts";
import { all, startTiny } from "./start-tiny.ts";
import { twoTenants } from "./two-tenants.ts";

/** More than a megabyte of them. */
function manyLines(context: number, last: string = ""): string {
  const lines = chatLines("ticket-router", 160);
  return `${Array.from({ length: context }, () => lines).join("\n")}\n${last}`;
}

const repeated = Math.ceil(2 ** 20 / chatLines("ticket-router", 160).length) + 1;

async function scene(context: TestContext) {
  const dataDirectory = await mkdtemp(join(tmpdir(), "cotenant-fine-tuning-"));
  context.after(() => rm(dataDirectory, { recursive: true, force: true }));
  const { keysFile, keys } = await twoTenants(context, {});
  const start = async () => {
    const server = await startTiny({ keysFile, dataDirectory });
    const clientOf = (apiKey: string) => new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 });
    return { server, acme: clientOf(keys.acme.manage), globex: clientOf(keys.globex.manage) };
  };
  return { start };
}

test("a large file is validated when the job is there; what is wrong with it fails the job by line and field", async (context) => {
  const { start } = await scene(context);
  const { server, acme } = await start();
  await using _ = server;
  const long = JSON.stringify({
    messages: [
      { role: "user", content: "x ".repeat(20_000) },
      { role: "assistant", content: "y" },
    ],
  });
  const lines = manyLines(repeated);
  const [good, bad] = [await uploadLines(acme, lines), await uploadLines(acme, `${lines}${long}`)];
  const create = (training_file: string, hyperparameters: object) =>
    acme.fineTuning.jobs.create({
      model: "tiny",
      training_file,
      method: { ...smallMethod, supervised: { hyperparameters } },
    });
  const before = (await all(acme.fineTuning.jobs.list())).length;
  for (const wrong of [{ learning_rate: "NaN" }, { epochs: 1 }])
    await assert.rejects(create(good, wrong), { status: 400, code: "training_settings_invalid" });
  assert.equal((await all(acme.fineTuning.jobs.list())).length, before);

  const refused = await create(bad, { batch_size: 1 });
  assert.equal(refused.status, "validating_files");
  assert.equal((refused.method!.supervised!.hyperparameters as { n_epochs: unknown }).n_epochs, "auto");
  assert.equal((refused as unknown as { memory_bytes: unknown }).memory_bytes, null);
  await assert.rejects(acme.files.delete(bad), { status: 409, code: "file_in_use" });
  const failed = await untilJob(acme, refused.id);
  assert.deepEqual(
    [failed.status, failed.error?.code, failed.error?.param, failed.fine_tuned_model, failed.result_files],
    ["failed", "invalid_training_file", "training_file", null, []],
  );
  const line = lines.split("\n").length;
  assert.match(failed.error!.message, new RegExp(`^line ${line}: reaches \\d+ tokens`));
  await acme.files.delete(bad); // nothing holds it any more

  const made = await create(good, { n_epochs: 1, batch_size: 256, over_length: "truncate" });
  assert.equal(made.status, "validating_files");
  const queued = await untilJob(acme, made.id, ({ status }) => status !== "validating_files");
  assert.ok(["queued", "running"].includes(queued.status), JSON.stringify(queued.error));
  assert.ok((queued as unknown as { memory_bytes: number }).memory_bytes > 0);
  const messages = (await all(acme.fineTuning.jobs.listEvents(made.id))).map(({ message }) => message);
  assert.ok(messages.includes("Files validated, moving job to queued state"), `${messages}`);
  await acme.fineTuning.jobs.cancel(made.id);
  const cancelled = await acme.fineTuning.jobs.cancel((await create(good, {})).id);
  assert.equal(cancelled.status, "cancelled");
});

test("a job that never fits is refused when it is made, however large its file is", async () => {
  const { defaultScheduling } = await import("../../scheduler/scheduling-options.ts");
  await using server = await startTiny({
    scheduling: { ...defaultScheduling, trainingMemoryBytes: 1_000_000 },
  });
  const training_file = await uploadLines(server.client, manyLines(repeated));
  await assert.rejects(server.client.fineTuning.jobs.create({ model: "tiny", training_file }), {
    status: 400,
    code: "training_does_not_fit",
    message: /\d{7,} bytes, more than the 1000000 of --training-memory-bytes/,
  });
});

test("a job's steps are a file of its tenant, which outlives the server and may be deleted", async (context) => {
  const { start } = await scene(context);
  let id: string;
  let text: string;
  let jobId: string;
  {
    const { server, acme, globex } = await start();
    await using _ = server;
    const training_file = await uploadLines(acme, chatLines("ticket-router", 8));
    const validation_file = await uploadLines(acme, chatLines("ticket-router", 4, 8));
    const made = await acme.fineTuning.jobs.create({
      model: "tiny",
      training_file,
      validation_file,
      method: smallMethod,
    });
    assert.deepEqual(made.result_files, []);
    jobId = made.id;
    const job = await untilJob(acme, jobId);
    assert.equal(job.status, "succeeded", JSON.stringify(job.error));
    assert.equal(job.result_files.length, 1);
    id = job.result_files[0]!;
    const file = await acme.files.retrieve(id);
    text = await (await acme.files.content(id)).text();
    assert.deepEqual(
      [file.purpose, file.filename, file.bytes],
      ["fine-tune-results", "step_metrics.csv", Buffer.byteLength(text)],
    );
    const [head, ...rows] = text.trim().split("\n");
    assert.match(head!, /^step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy,tokens,/);
    assert.deepEqual(
      rows.map((row) =>
        row
          .split(",")
          .slice(0, 5)
          .map((value) => value !== ""),
      ),
      [1, 2, 3, 4].map((step) => [true, true, true, step % 2 === 0, step % 2 === 0]),
    );
    for (const row of rows) {
      const accuracy = Number(row.split(",")[2]);
      assert.ok(accuracy >= 0 && accuracy <= 1, row);
    }
    assert.ok(!head!.includes("train_mean_token_accuracy"), head); // it is there under OpenAI's name
    const ids = async (purpose?: string) =>
      (await all(acme.files.list(purpose === undefined ? {} : { purpose }))).map((each) => each.id);
    assert.deepEqual(await ids("fine-tune-results"), [id]);
    assert.equal((await ids()).length, 3);
    assert.ok(!(await ids("fine-tune")).includes(id));
    await assert.rejects(globex.files.content(id), { status: 404, code: "file_not_found" });
    await assert.rejects(acme.fineTuning.jobs.create({ model: "tiny", training_file: id }), {
      status: 400,
      code: "invalid_value",
      param: "training_file",
      message: /is of purpose fine-tune-results; upload examples as fine-tune/,
    });
  }
  const { server, acme } = await start();
  await using _ = server;
  assert.equal(await (await acme.files.content(id)).text(), text);
  assert.deepEqual((await acme.fineTuning.jobs.retrieve(jobId)).result_files, [id]);
  await acme.files.delete(id);
  assert.deepEqual((await acme.fineTuning.jobs.retrieve(jobId)).result_files, []);
});
