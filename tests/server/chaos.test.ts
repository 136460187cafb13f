// The engine's thread dies under load: streams hear of it, the server says so, another engine takes its place, and
// nothing that was promised is lost.

import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { writeSafetensors } from "../../kernels/checkpoint/write-safetensors.ts";
import { until } from "../until.ts";
import { watchEngineThreads } from "./engine-threads.ts";
import { readEvents, tinyDirectory } from "./scripted-app.ts";
import { startTiny, type TinyServer, tinyName } from "./start-tiny.ts";

const adaptersDirectory = join(tinyDirectory, "adapters");
const prompt = "Order 12 boxes of";

type Failure = { readonly error: { readonly code: string; readonly type: string; readonly message: string } };

function post(server: TinyServer, body: object): Promise<Response> {
  return fetch(`${server.url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt, temperature: 0, ignore_eos: true, ...body }),
  });
}

async function textOf(server: TinyServer, model: string): Promise<string> {
  const response = await post(server, { model, max_tokens: 24 });
  assert.equal(response.status, 200, await response.clone().text());
  const { choices } = (await response.json()) as { choices: { text: string }[] };
  return choices[0]!.text;
}

/** Generated tokens that the ledger has. */
async function usedTokens(server: TinyServer): Promise<number> {
  const start = Math.floor(Date.now() / 1000) - 86_400;
  const response = await fetch(`${server.url}/v1/usage?start_time=${start}`);
  const { data } = (await response.json()) as { data: { results: { output_tokens: number }[] }[] };
  return data.flatMap(({ results }) => results).reduce((sum, { output_tokens }) => sum + output_tokens, 0);
}

const readyStatus = async (server: TinyServer) => (await fetch(`${server.url}/ready`)).status;

test("an engine dies: streams end with an error, /ready says why, the next engine writes the same", async () => {
  using threads = watchEngineThreads();
  await using server = await startTiny({ adaptersDirectory });
  const models = [tinyName, ...server.adapters];
  const before = await Promise.all(models.map((model) => textOf(server, model)));
  const spent = await usedTokens(server);
  assert.equal(spent, models.length * 24);
  const streams = await Promise.all(
    models.map((model) => post(server, { model, max_tokens: 900, stream: true })),
  );
  const bodies = streams.map((stream) => readEvents(stream));
  threads.kill();
  await until(async () => (await readyStatus(server)) === 503);
  const down = await fetch(`${server.url}/ready`);
  if (down.status === 503) assert.match(await down.text(), /restarting the engine/);
  const refused = await post(server, { model: tinyName, max_tokens: 1 });
  if (refused.status !== 200) {
    assert.equal(refused.status, 503);
    assert.ok(Number(refused.headers.get("retry-after")) >= 1);
    assert.equal(((await refused.json()) as Failure).error.code, "engine_restarting");
  }
  for (const events of await Promise.all(bodies)) {
    assert.equal(events.at(-1), "[DONE]");
    const { error } = events.at(-2) as Failure;
    assert.deepEqual([error.code, error.type], ["engine_restarting", "service_unavailable_error"]);
    assert.ok(events.length > 2); // it had begun
  }
  assert.equal((await fetch(`${server.url}/health`)).status, 200);
  await until(async () => (await readyStatus(server)) === 200);
  assert.equal(threads.started(), 2);
  assert.deepEqual(await Promise.all(models.map((model) => textOf(server, model))), before);
  assert.ok((await usedTokens(server)) > 2 * spent); // the cut streams are in the ledger too
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  assert.match(metrics, /^cotenant_engine_restarts_total 1$/m);
});

test("kills at random moments: who tries again is served, and each answer is whole or an error", async () => {
  using threads = watchEngineThreads();
  const kills = 4;
  const restartLimits = { failures: 100, windowMs: 60_000, firstDelayMs: 10 };
  // Room for about one adapter: loads and evictions are under way when the engine dies.
  await using server = await startTiny({ adaptersDirectory, hostCacheBytes: 3_600_000, restartLimits });
  const models = [tinyName, ...server.adapters];
  const expected = new Map<string, string>();
  for (const model of models) expected.set(model, await textOf(server, model));
  let isOver = false;
  const codes = new Set<string>();
  const outcomes = { whole: 0, cut: 0 };
  const ask = async (model: string) => {
    while (!isOver) {
      const response = await post(server, { model, max_tokens: 24, stream: true });
      if (response.status !== 200) {
        codes.add(((await response.json()) as Failure).error.code);
        outcomes.cut++;
        await delay(10);
        continue;
      }
      const events = (await readEvents(response)) as ({ choices: { text: string }[] } | Failure | "[DONE]")[];
      const failures = events.flatMap((event) =>
        typeof event === "object" && "error" in event ? [event] : [],
      );
      for (const { error } of failures) codes.add(error.code);
      outcomes[failures.length > 0 ? "cut" : "whole"]++;
      const text = events
        .flatMap((event) => (typeof event === "object" && "choices" in event ? event.choices : []))
        .map((choice) => choice.text)
        .join("");
      if (failures.length === 0) assert.equal(text, expected.get(model));
      else assert.ok(expected.get(model)!.startsWith(text));
    }
  };
  const clients = [...models, ...models].map((model) => ask(model));
  for (let kill = 0; kill < kills; kill++) {
    await delay(Math.random() * 400);
    await until(() => threads.started() > kill);
    threads.kill();
    await until(() => threads.started() > kill + 1);
  }
  await until(async () => (await readyStatus(server)) === 200);
  const wholeBefore = outcomes.whole;
  await until(() => outcomes.whole > wholeBefore + models.length);
  isOver = true;
  await Promise.all(clients);
  assert.deepEqual([...codes], ["engine_restarting"]);
  assert.ok(outcomes.cut >= kills);
  assert.equal(threads.started(), kills + 1);
});

test("the prepared weights vanish before the graph has to grow: the next engine prepares them again", async () => {
  await using files = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "cotenant-chaos-"));
  files.defer(() => rm(folder, { recursive: true }));
  const cacheDirectory = join(folder, "cache");
  const adapter = join(folder, "adapters", "scaling"); // a kind that the first graph has no nodes for
  await mkdir(adapter, { recursive: true });
  const config = { peft_type: "IA3", target_modules: ["down_proj"], feedforward_modules: ["down_proj"] };
  await writeFile(join(adapter, "adapter_config.json"), JSON.stringify(config));
  const scale = new Float32Array(704).fill(1.5);
  writeSafetensors(join(adapter, "adapter_model.safetensors"), [
    {
      name: "base_model.model.model.layers.0.mlp.down_proj.ia3_l",
      dtype: "F32",
      shape: [1, scale.length],
      pieces: () => [scale],
    },
  ]);
  const restartLimits = { failures: 3, windowMs: 60_000, firstDelayMs: 10 };
  const adaptersDirectory = join(folder, "adapters");
  await using server = await startTiny({ adaptersDirectory, cacheDirectory, restartLimits });
  await rm(cacheDirectory, { recursive: true });
  const refused = await post(server, { model: "scaling", max_tokens: 1 });
  assert.equal(refused.status, 503);
  assert.equal(((await refused.json()) as Failure).error.code, "engine_restarting");
  await until(async () => (await readyStatus(server)) === 200);
  assert.notEqual(await textOf(server, "scaling"), await textOf(server, tinyName));
});

test("engines that die again and again: the server says what to do and ends", async () => {
  using threads = watchEngineThreads();
  const restartLimits = { failures: 3, windowMs: 60_000, firstDelayMs: 1 };
  await using server = await startTiny({ restartLimits });
  const givenUp = assert.rejects(server.failure, {
    code: "engine_gave_up",
    message: /3 times within 60 s.*start the server again/,
  });
  for (let kill = 0; kill < 3; kill++) {
    await until(async () => (await readyStatus(server)) === 200);
    await threads.terminate();
  }
  await givenUp;
  const down = await fetch(`${server.url}/ready`);
  assert.equal(down.status, 503);
  assert.match(await down.text(), /failed 3 times/);
  assert.equal((await fetch(`${server.url}/health`)).status, 503);
});
