// A driver that loses its device, and one that runs out of memory: the driver's own answers to Vulkan's calls, with
// everything above it as it always is (failing-driver/driver.c).

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import OpenAI from "openai";
import type { Logits } from "../../kernels/model-runner.ts";
import { makeModel } from "../../scripts/make-model.ts";
import { modelShapes } from "../../scripts/model-shapes.ts";
import { withServer } from "../../scripts/server-process.ts";
import { packageRoot } from "../../server/package-root.ts";
import {
  distance,
  goldenCase,
  logitRow,
  logSoftmax,
  openGolden,
  temporaryCache,
} from "../golden/golden-case.ts";
import { type Job, untilJob, uploadLines } from "../server/fine-tuning-scene.ts";
import { makeFailingDriver } from "./failing-driver/failing-driver.ts";
import { openWebgpuGolden } from "./open-golden.ts";

const made = makeFailingDriver();
const skip = "reason" in made ? made.reason : false;
const driver = "reason" in made ? null : made;
after(() => driver?.remove());
const tolerance = 2e-4; // on log-probabilities

type Answer = { readonly status: number; readonly code?: string; readonly text?: string };

type Parts = Readonly<Record<string, number>>;
type ReadyAnswer = {
  readonly memory: { readonly parts: Parts; readonly device: { readonly parts: Parts } | null };
};

async function ask(url: string): Promise<Answer> {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "model",
      prompt: "one two",
      max_tokens: 1, // decode steps would compile twice over
      temperature: 0,
      ignore_eos: true,
    }),
  });
  const { choices, error } = (await response.json()) as {
    choices?: { text: string }[];
    error?: { code: string };
  };
  return error === undefined
    ? { status: response.status, text: choices![0]!.text }
    : { status: response.status, code: error.code };
}

/** A server on a base of one layer, on the driver that fails. */
async function withFailingServer(use: (url: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "cotenant-lost-"));
  const { tiny } = modelShapes;
  const shape = { ...tiny, config: { ...tiny.config, num_hidden_layers: 1 } };
  makeModel({ shape, directory: join(folder, "model"), seed: 1 });
  const folders = [
    "--model",
    join(folder, "model"),
    "--data",
    join(folder, "data"),
    "--cache",
    join(folder, "cache"),
  ];
  const limits = ["--max-rows", "2", "--max-context", "128", "--quantize", "none"];
  const args = ["server/cotenant.js", "serve", "--port", "0", "--device", "webgpu", ...folders, ...limits];
  const environment = { ...process.env, ...driver!.environment };
  await withServer({ command: process.execPath, args, cwd: packageRoot, environment }, use);
  rmSync(folder, { recursive: true });
}

async function untilReady(url: string): Promise<void> {
  while ((await fetch(`${url}/ready`)).status !== 200) await delay(50);
}

test("a server whose device is lost fails the request, starts another engine and answers as before", {
  skip,
}, async () => {
  await withFailingServer(async (url) => {
    const { memory } = (await (await fetch(`${url}/ready`)).json()) as ReadyAnswer;
    assert.equal(memory.parts.keys_and_values, 0);
    assert.ok(memory.device!.parts.keys_and_values! > 0);
    const before = await ask(url);
    assert.equal(before.status, 200);
    driver!.lose();
    assert.deepEqual(await ask(url), { status: 503, code: "engine_restarting" });
    assert.ok(driver!.isLost());
    assert.equal((await fetch(`${url}/health`)).status, 200);
    await untilReady(url);
    assert.deepEqual(await ask(url), before);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    assert.match(metrics, /^cotenant_engine_restarts_total 1$/m);
  });
});

/** Examples of one length: every other shape compiles for seconds on a software adapter. */
const examples = ["a", "b"].map((content) =>
  JSON.stringify({
    messages: [
      { role: "user", content },
      { role: "assistant", content },
    ],
  }),
);

/** Four steps, a checkpoint after each. */
async function createJob(client: OpenAI): Promise<string> {
  const training_file = await uploadLines(client, examples.join("\n"));
  const hyperparameters = { n_epochs: 4, batch_size: 2, checkpoint_steps: 1 } as object;
  const adapter = { type: "lora", rank: 2, target_modules: ["q_proj"] };
  const method = { type: "supervised", supervised: { hyperparameters }, adapter } as const;
  return (await client.fineTuning.jobs.create({ model: "model", training_file, method, seed: 3 })).id;
}

async function versionOf(client: OpenAI, { status, error, fine_tuned_model }: Job): Promise<string> {
  assert.equal(status, "succeeded", JSON.stringify(error));
  const adapter: { version: string } = await client.get(`/adapters/${fine_tuned_model}`);
  return adapter.version;
}

test("a job whose device is lost goes on from its last checkpoint in the next engine, to the same result", {
  skip,
}, async () => {
  await withFailingServer(async (url) => {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
    const before = await ask(url);
    const expected = await versionOf(client, await untilJob(client, await createJob(client)));

    const id = await createJob(client);
    const steps = async () => (await client.fineTuning.jobs.checkpoints.list(id)).data.length;
    while ((await steps()) === 0) await delay(50);
    driver!.lose();
    while (!driver!.isLost()) await delay(10); // nobody asks: a unit of the job's finds it
    assert.deepEqual(await ask(url), { status: 503, code: "engine_restarting" });
    assert.equal((await fetch(`${url}/health`)).status, 200);
    await untilReady(url);
    assert.deepEqual(await ask(url), before);

    assert.equal(await versionOf(client, await untilJob(client, id)), expected);
    const events = await client.fineTuning.jobs.listEvents(id, { limit: 100 });
    const messages = events.data.map(({ message }) => message);
    const count = (pattern: RegExp) => messages.filter((message) => pattern.test(message)).length;
    assert.equal(count(/^Interrupted, and goes on from the last checkpoint/), 1, `${messages}`);
    assert.equal(count(/^Training goes on from step [1-3] of 4$/), 1, `${messages}`);
    assert.equal(count(/training loss/), 4, `${messages}`);
  });
});

test("without memory a sequence waits and others go on; what the runtime keeps of it ends the device", {
  skip,
}, async () => {
  Object.assign(process.env, driver!.environment); // read when the device is opened for the first time
  const golden = goldenCase("llama");
  const cacheDirectory = temporaryCache();
  const { runner: cpu } = await openGolden(golden, { cacheDirectory });
  const open = () => openWebgpuGolden(golden, { cacheDirectory, maxRows: 2, maxContext: 65_536 });
  const runner = await open();
  const chunk = {
    tokenIds: golden.prompts[0]!,
    promptLength: golden.prompts[0]!.length,
    logits: "last",
  } as const;
  const prompt = { scope: "", tokenIds: new Array<number>(65_000).fill(5) };
  for (const device of [cpu, runner]) device.open("small", { adapterVersion: null, prefix: null });
  const isSame = (found: Logits, expected: Logits) =>
    assert.ok(distance(logSoftmax(logitRow(found, 0)), logSoftmax(logitRow(expected, 0))) <= tolerance);
  isSame(
    await runner.prefill({ ...chunk, sequence: "small" }),
    await cpu.prefill({ ...chunk, sequence: "small" }),
  );

  driver!.setFull(true);
  runner.open("large", { adapterVersion: null, prefix: prompt });
  const large = () => runner.prefill({ ...chunk, sequence: "large", promptLength: prompt.tokenIds.length });
  await assert.rejects(large(), { code: "kv_memory_exhausted" });
  await assert.rejects(large(), { code: "kv_memory_exhausted" });
  const entry = { sequence: "small", tokenId: 7 };
  isSame(await runner.decode([entry]), await cpu.decode([entry]));

  driver!.setFull(false);
  await assert.rejects(large(), { code: "device_memory_spoiled" });
  await assert.rejects(runner.failure, { code: "device_memory_spoiled" });
  for (const id of ["small", "large"]) runner.close(id);
  await runner.dispose();

  const next = await open();
  next.open("large", { adapterVersion: null, prefix: prompt });
  const { count } = await next.prefill({ ...chunk, sequence: "large", promptLength: prompt.tokenIds.length });
  assert.equal(count, 1);
  await next.dispose();
  await cpu.dispose();
});
