// A driver that loses its device, and one that runs out of memory: the driver's own answers to Vulkan's calls, with
// everything above it as it always is (failing-driver/driver.c).

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
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

test("a server whose device is lost fails the request, starts another engine and answers as before", {
  skip,
}, async () => {
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
  await withServer({ command: process.execPath, args, cwd: packageRoot, environment }, async (url) => {
    const { memory } = (await (await fetch(`${url}/ready`)).json()) as ReadyAnswer;
    assert.equal(memory.parts.keys_and_values, 0);
    assert.ok(memory.device!.parts.keys_and_values! > 0);
    const before = await ask(url);
    assert.equal(before.status, 200);
    driver!.lose();
    assert.deepEqual(await ask(url), { status: 503, code: "engine_restarting" });
    assert.ok(driver!.isLost());
    assert.equal((await fetch(`${url}/health`)).status, 200);
    while ((await fetch(`${url}/ready`)).status !== 200) await delay(50);
    assert.deepEqual(await ask(url), before);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    assert.match(metrics, /^cotenant_engine_restarts_total 1$/m);
  });
  rmSync(folder, { recursive: true });
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
