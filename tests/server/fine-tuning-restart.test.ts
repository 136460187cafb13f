// Jobs that outlive the server and the engine that they began in: each ends with the adapter of a job that nothing
// interrupted, to the bit, and quotas that come in the way say so.

import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import OpenAI from "openai";
import { until } from "../until.ts";
import { watchEngineThreads } from "./engine-threads.ts";
import { chatLines, smallMethod, untilJob, uploadLines } from "./fine-tuning-scene.ts";
import { all, startTiny, type TinyServer } from "./start-tiny.ts";
import { twoTenants } from "./two-tenants.ts";

const threads = watchEngineThreads();

async function folder(context: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "cotenant-fine-tuning-"));
  context.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Ten steps, with a checkpoint every three. */
const method = {
  ...smallMethod,
  supervised: { hyperparameters: { n_epochs: 5, batch_size: 4, checkpoint_steps: 3 } as object },
};

async function create(client: OpenAI): Promise<string> {
  const training_file = await uploadLines(client, chatLines("ticket-router", 8));
  return (await client.fineTuning.jobs.create({ model: "tiny", training_file, method, seed: 9 })).id;
}

async function resultOf(server: TinyServer, id: string): Promise<{ steps: number[]; version: string }> {
  const job = await untilJob(server.client, id);
  assert.equal(job.status, "succeeded", JSON.stringify(job.error));
  const adapter = await (await fetch(`${server.url}/v1/adapters/${job.fine_tuned_model}`)).json();
  const checkpoints = await all(server.client.fineTuning.jobs.checkpoints.list(id));
  const steps = checkpoints.map(({ step_number }) => step_number);
  return { steps, version: (adapter as { version: string }).version };
}

const messagesOf = async ({ client }: TinyServer, id: string) =>
  (await all(client.fineTuning.jobs.listEvents(id))).map(({ message }) => message).reverse();

const untilStep = (server: TinyServer, id: string, step: number) =>
  untilJob(server.client, id, ({ trained_tokens, status }) => {
    assert.notEqual(status, "failed");
    return (trained_tokens ?? 0) > step * 60; // at least: examples of a step have more tokens than that
  });

test("an interrupted job's adapter is that of one that was not, to the bit", async (context) => {
  let expected: { steps: number[]; version: string };
  {
    await using server = await startTiny({ dataDirectory: await folder(context) });
    expected = await resultOf(server, await create(server.client));
    assert.deepEqual(expected.steps, [10, 9, 6, 3]);
  }

  await context.test("by the server's end", async () => {
    const dataDirectory = await folder(context);
    let id: string;
    let followed: Promise<string>;
    {
      await using server = await startTiny({ dataDirectory });
      id = await create(server.client);
      const stream = await fetch(`${server.url}/v1/fine_tuning/jobs/${id}/events?stream=true`);
      followed = stream.text();
      await untilStep(server, id, 1);
    }
    assert.match(await followed, /training loss.*"code":"server_closing".*\[DONE\]\n\n$/s);
    await using server = await startTiny({ dataDirectory });
    assert.deepEqual(await resultOf(server, id), expected);
    const messages = await messagesOf(server, id);
    assert.ok(
      messages.some((message) => /^Training goes on from step \d+ of 10$/.test(message)),
      `${messages}`,
    );
    assert.equal(messages.filter((message) => message.includes("training loss")).length, 10);
    // They go once the job's end is on disk, which is after its owner could be told.
    await until(async () => (await readdir(join(dataDirectory, "fine-tuning", "checkpoints"))).length === 0);
  });

  await context.test("by the engine's death", async () => {
    await using server = await startTiny({ dataDirectory: await folder(context) });
    const id = await create(server.client);
    await untilStep(server, id, 1);
    threads.kill();
    assert.deepEqual(await resultOf(server, id), expected);
    const messages = await messagesOf(server, id);
    assert.ok(
      messages.some((message) => message.startsWith("Interrupted, and goes on")),
      `${messages}`,
    );
  });
});

test("a job's parent outlasts its name's end and a restart, and its owner is told which job needs it", async (context) => {
  const dataDirectory = await folder(context);
  const versions = join(dataDirectory, "adapters", "versions");
  let id: string;
  let parent: string;
  let version: string;
  const call = (server: TinyServer, name: string, method: string) =>
    fetch(`${server.url}/v1/adapters/${name}?force=true`, { method });
  {
    await using server = await startTiny({ dataDirectory });
    const training_file = await uploadLines(server.client, chatLines("ticket-router", 8));
    const first = await create(server.client);
    parent = (await untilJob(server.client, first)).fine_tuned_model!;
    version = ((await (await call(server, parent, "GET")).json()) as { version: string }).version;
    id = (await server.client.fineTuning.jobs.create({ model: parent, training_file, method, seed: 2 })).id;
    await server.client.fineTuning.jobs.pause(id);
    const refused = await call(server, parent, "DELETE");
    assert.equal(refused.status, 409);
    assert.match(await refused.text(), new RegExp(`"message":"the finetuning job ${id} .*"adapter_in_use"`));
  }
  // What a name's end of time does, without waiting for it.
  const names = join(dataDirectory, "adapters", "names");
  for (const path of await readdir(names, { recursive: true })) {
    if (!path.endsWith(".json")) continue;
    const content = await readFile(join(names, path), "utf8");
    if (JSON.parse(content).id === parent) await rm(join(names, path));
  }
  {
    await using server = await startTiny({ dataDirectory });
    assert.equal((await call(server, parent, "GET")).status, 404);
    assert.ok((await readdir(versions)).includes(version));
    await server.client.fineTuning.jobs.resume(id);
    await resultOf(server, id);
    await until(async () => !(await readdir(versions)).includes(version));
  }
});

test("a quota that checkpoints would exceed is told, and room for the result is kept", async (context) => {
  const { keysFile, keys } = await twoTenants(context, { adapters: 2 });
  await using server = await startTiny({ keysFile });
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: keys.acme.manage, maxRetries: 0 });
  const id = await create(client);
  const job = await untilJob(client, id);
  assert.equal(job.status, "succeeded", JSON.stringify(job.error));
  const checkpoints = await all(client.fineTuning.jobs.checkpoints.list(id));
  assert.deepEqual(
    checkpoints.map(({ step_number }) => step_number),
    [10, 3],
  );
  const messages = (await all(client.fineTuning.jobs.listEvents(id))).map(({ message }) => message);
  assert.equal(
    messages.filter((message) => /was not published: .*quota of 2 adapters/.test(message)).length,
    2,
  );
  await assert.rejects(create(client), { status: 403, code: "quota_exceeded" });
});
