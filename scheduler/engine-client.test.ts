// The engine in its worker thread: generation, aborting, refusal, a model that cannot be opened, and closing.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { describeCheckpoint } from "../kernels/base-model.ts";
import { goldenAdapter, goldenCase, temporaryCache } from "../tests/golden/golden-case.ts";
import { neverAfterMs, until } from "../tests/until.ts";
import type { Engine } from "./engine.ts";
import { startEngine } from "./engine-client.ts";
import { requestOf } from "./generation-request-fixture.ts";
import type { EngineOptions, GenerationRequest } from "./protocol.ts";
import { defaultScheduling } from "./scheduling-options.ts";

const golden = goldenCase("llama");
const options: EngineOptions = {
  modelDirectory: golden.directory,
  cacheDirectory: temporaryCache(),
  device: "auto",
  quantize: "none",
  maxRows: 4,
  maxContext: 0,
  threads: 1,
  scheduling: defaultScheduling,
};
const stages = new Set<string>();
const engine = await startEngine(options, ({ stage }) => stages.add(stage));
after(() => engine.close());

async function tokensOf(from: Engine, request: GenerationRequest, signal?: AbortSignal): Promise<number[]> {
  const tokens: number[] = [];
  for await (const event of from.generate(request, signal))
    if (event.type === "token") tokens.push(event.tokenId);
  return tokens;
}

const goldenRequest = (run: number, changes: Partial<GenerationRequest> = {}) =>
  requestOf({
    id: `run-${run}`,
    promptTokenIds: golden.prompts[golden.runs[run]!.prompt]!,
    adapterVersion: golden.runs[run]!.adapter,
    maxTokens: 24,
    ...changes,
  });

test("the model is described, and opening reported progress", () => {
  assert.equal(engine.model.family, "llama");
  assert.equal(engine.model.device, "cpu");
  assert.equal(engine.model.maxContext, 512);
  assert.deepEqual(engine.model.eosTokenIds, describeCheckpoint(golden.directory).eosTokenIds);
  assert.deepEqual([...stages].sort(), ["hashing", "preparing weights"]);
});

test("all golden runs at once, adapters and base together", async () => {
  const { config } = describeCheckpoint(golden.directory);
  const add = (name: string) => engine.addAdapter(name, goldenAdapter(golden, name, { config }));
  await Promise.all(["wide", "narrow"].map(add));
  const texts = await Promise.all(golden.runs.map((_, run) => tokensOf(engine, goldenRequest(run))));
  assert.deepEqual(
    texts,
    golden.runs.map(({ greedy }) => greedy),
  );
  await until(() => engine.stats.steps > 0 && engine.stats.running === 0);
  assert.ok(engine.stats.slotLoads > 0 && engine.stats.sessionSeconds > 0);
});

/** A request for 500 tokens that ended early leaves no row, and not because all 500 steps were made. */
async function assertRowFreed(stepsBefore: number): Promise<void> {
  await until(() => engine.stats.steps > stepsBefore && engine.stats.running === 0);
  assert.equal(engine.stats.kvTokensUsed, 0);
  assert.ok(engine.stats.steps - stepsBefore < 500, "it ran to its end");
}

test("aborting frees the row, and what was generated until then was delivered", async () => {
  const { steps } = engine.stats;
  const controller = new AbortController();
  const received: number[] = [];
  await assert.rejects(async () => {
    const request = requestOf({ id: "aborted", maxTokens: 500 });
    for await (const event of engine.generate(request, controller.signal)) {
      if (event.type === "token") received.push(event.tokenId);
      if (received.length === 5) controller.abort(new Error("the client is gone"));
    }
  }, /the client is gone/);
  assert.ok(received.length >= 5 && received.length < 500);
  await assertRowFreed(steps);
});

test("leaving the loop frees the row as well; an aborted signal does not even submit", async () => {
  const { steps } = engine.stats;
  for await (const event of engine.generate(requestOf({ id: "left", maxTokens: 500 }))) {
    if (event.type === "token") break;
  }
  await assertRowFreed(steps);
  const gone = AbortSignal.abort(new Error("gone before"));
  await assert.rejects(tokensOf(engine, requestOf({ id: "never" }), gone), /gone before/);
});

test("a refused request throws the engine's code", async () => {
  const unknown = requestOf({ id: "unknown", adapterVersion: "unheard of" });
  await assert.rejects(tokensOf(engine, unknown), { code: "adapter_not_found" });
  const long = requestOf({ id: "long", maxTokens: 512 });
  await assert.rejects(tokensOf(engine, long), { code: "context_length_exceeded" });
});

test("a removed adapter is refused, and one added again serves", async () => {
  const { config } = describeCheckpoint(golden.directory);
  const wide = golden.runs.findIndex(({ adapter }) => adapter === "wide");
  await engine.removeAdapter("wide");
  await assert.rejects(tokensOf(engine, goldenRequest(wide)), { code: "adapter_not_found" });
  await engine.addAdapter("wide", goldenAdapter(golden, "wide", { config }));
  assert.deepEqual(await tokensOf(engine, goldenRequest(wide)), golden.runs[wide]!.greedy);
});

const refusedOptions: Record<string, [Partial<EngineOptions>, string]> = {
  "a directory without a model": [{ modelDirectory: tmpdir() }, "checkpoint_unreadable"],
  "a context beyond the model's": [{ maxContext: 513 }, "context_too_long"],
  "a device that is not there": [{ device: "cuda" }, "device_not_available"],
};

for (const [name, [changes, code]] of Object.entries(refusedOptions)) {
  test(`${name} rejects with ${code}`, async () => {
    const starting = startEngine({ ...options, ...changes }, () => undefined);
    await assert.rejects(starting, { code });
  });
}

test("close ends what runs with server_closing", async () => {
  const closing = await startEngine(options, () => undefined);
  const running = assert.rejects(
    async () => {
      for await (const event of closing.generate(requestOf({ id: "cut", maxTokens: 500 }))) {
        if (event.type === "token") closed ??= closing.close();
      }
    },
    { code: "server_closing" },
  );
  let closed: Promise<void> | undefined;
  await running;
  await closed;
});

test("after close no handle keeps the process alive", async () => {
  const cacheDirectory = mkdtempSync(join(tmpdir(), "cotenant-engine-"));
  const code = `import(${JSON.stringify(import.meta.resolve("./engine-client.ts"))}).then(async ({ startEngine }) => {
    const { options, request } = JSON.parse(process.argv[1]);
    const engine = await startEngine(options, () => undefined);
    for await (const event of engine.generate(request)) void event;
    await engine.close();
    console.log("closed");
  })`;
  const input = JSON.stringify({ options: { ...options, cacheDirectory }, request: requestOf() });
  const child = spawn(process.execPath, ["-e", code, input], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: neverAfterMs,
  });
  let output = "";
  child.stdout.on("data", (data) => {
    output += data;
  });
  const exit = await new Promise((resolve) =>
    child.once("exit", (exitCode, signal) => resolve(exitCode ?? signal)),
  );
  rmSync(cacheDirectory, { recursive: true, force: true });
  assert.equal(output, "closed\n");
  assert.equal(exit, 0);
});
