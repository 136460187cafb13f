// The engine on WebGPU from outside: it decodes what transformers decodes with different adapters in one batch, says
// what it runs on and what it does not do, ends cleanly, and dies of a lost device so that the supervisor starts
// another.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { describeCheckpoint } from "../../kernels/base-model.ts";
import { findGpu } from "../../kernels/devices/find-gpu.ts";
import { CotenantError } from "../../kernels/errors.ts";
import { greedySampling } from "../../kernels/sampling/sampler.ts";
import { openWebgpuModel, type WebgpuModel } from "../../kernels/webgpu/webgpu-model.ts";
import { WebgpuRunner } from "../../kernels/webgpu/webgpu-runner.ts";
import type { Engine } from "../../scheduler/engine.ts";
import { startEngine } from "../../scheduler/engine-client.ts";
import { requestOf } from "../../scheduler/generation-request-fixture.ts";
import type { GenerationRequest } from "../../scheduler/protocol.ts";
import { defaultScheduling } from "../../scheduler/scheduling-options.ts";
import { goldenAdapter, goldenCase, temporaryCache } from "../golden/golden-case.ts";

const golden = goldenCase("llama");
const cacheDirectory = temporaryCache();
const options = {
  modelDirectory: golden.directory,
  cacheDirectory,
  device: "webgpu",
  quantize: "none",
  maxRows: 4,
  maxContext: 128,
  threads: 1,
  scheduling: defaultScheduling,
} as const;
const steps = 6;

function requestOfRun(run: number): GenerationRequest {
  const { adapter, prompt } = golden.runs[run]!;
  const promptTokenIds = golden.prompts[prompt]!;
  return requestOf({ id: `${run}`, adapterVersion: adapter, promptTokenIds, maxTokens: steps });
}

/** Of the base, each sampled otherwise. */
function sampledRequests(): GenerationRequest[] {
  const warm = { ...greedySampling, temperature: 1 };
  const penalties = { repetitionPenalty: 1.3, presencePenalty: 0.4 };
  return [warm, { ...warm, topP: 0.8, ...penalties }, { ...greedySampling, ...penalties }].map(
    (sampling, seed) =>
      requestOf({
        id: `sampled-${seed}`,
        promptTokenIds: golden.prompts[golden.runs[3]!.prompt]!,
        sampling: { ...sampling, seed },
        logprobs: seed === 1 ? 2 : null,
        maxTokens: steps,
      }),
  );
}

async function tokensOf(engine: Engine, request: GenerationRequest): Promise<number[]> {
  const tokens: number[] = [];
  for await (const event of engine.generate(request)) if (event.type === "token") tokens.push(event.tokenId);
  return tokens;
}

test("base and adapters decode together as transformers does, and sample as the CPU does", async () => {
  const engine = await startEngine(options, () => undefined);
  assert.equal(engine.model.device, "webgpu");
  const { config } = describeCheckpoint(golden.directory);
  for (const name of ["wide", "narrow"]) {
    await engine.addAdapter(name, goldenAdapter(golden, name, { config }));
  }
  const runs = [3, 4, 5];
  const found = await Promise.all(runs.map((run) => tokensOf(engine, requestOfRun(run))));
  assert.deepEqual(
    found,
    runs.map((run) => golden.runs[run]!.greedy.slice(0, steps)),
  );
  assert.ok(engine.stats.busBytes > 0);
  const sampled = (from: Engine) => Promise.all(sampledRequests().map((request) => tokensOf(from, request)));
  const onDevice = await sampled(engine);
  await engine.close();
  const cpu = await startEngine({ ...options, device: "cpu" }, () => undefined);
  assert.deepEqual(onDevice, await sampled(cpu));
  await cpu.close();
});

test("auto takes no software adapter", {
  skip: findGpu().name !== null && "this machine has a GPU",
}, async () => {
  const engine = await startEngine({ ...options, device: "auto" }, () => undefined);
  assert.equal(engine.model.device, "cpu");
  assert.match(engine.model.deviceNote, /^the CPU: no /);
  await engine.close();
});

/** Runs code of an ES module in a process of its own; `imported` are modules of ours by their exports. */
function runApart(code: string, environment: NodeJS.ProcessEnv = {}) {
  const modules = {
    openWebgpuModel: "kernels/webgpu/webgpu-model.ts",
    startEngine: "scheduler/engine-client.ts",
  };
  const imports = Object.entries(modules).map(([name, path]) => {
    const url = new URL(`../../${path}`, import.meta.url).href;
    return `import { ${name} } from ${JSON.stringify(url)};`;
  });
  return spawnSync(process.execPath, ["-e", `${imports.join("\n")}\n${code}`], {
    encoding: "utf8",
    env: { ...process.env, ...environment },
  });
}

test("a process that leaves without closing anything ends with its own status", () => {
  const opening = { modelDirectory: golden.directory, cacheDirectory, encoding: "float32", threads: 1 };
  const child = runApart(
    `await openWebgpuModel({ ...${JSON.stringify(opening)}, onProgress() {} }); process.exitCode = 7;`,
  );
  assert.equal(child.status, 7, child.stderr);
});

test("without an adapter the engine says so and ends", { skip: process.platform !== "linux" }, () => {
  const nowhere = { VK_ICD_FILENAMES: "/nowhere.json", VK_DRIVER_FILES: "/nowhere.json" };
  const child = runApart(
    `await startEngine(${JSON.stringify(options)}, () => {}).catch(({ code, message }) => console.log(code, message));`,
    nowhere,
  );
  assert.match(child.stdout, /^device_not_available WebGPU does not open: .*--device cpu/);
  assert.equal(child.status, 0, child.stderr);
});

test("a device that fails a run and every one after it ends the runner", async () => {
  const model = await openWebgpuModel({
    modelDirectory: golden.directory,
    cacheDirectory,
    encoding: "float32",
    threads: 1,
    onProgress: () => undefined,
  });
  const state = { isAlive: true };
  const failing: WebgpuModel = {
    ...model,
    session: {
      features: new Set(),
      offer: async () => undefined,
      run: () => Promise.reject(new Error("device fault")),
    } as unknown as WebgpuModel["session"],
    allocator: new Proxy(model.allocator, {
      get: (target, name) => {
        if (name === "isAlive") return async () => state.isAlive;
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    }),
  };
  const runner = await WebgpuRunner.open(failing, { maxRows: 1, maxContext: 128 });
  runner.open("a", { adapterVersion: null, prefix: null });
  const chunk = { sequence: "a", tokenIds: [5], promptLength: 1, logits: "last" } as const;
  await assert.rejects(runner.prefill(chunk), /device fault/);
  state.isAlive = false;
  await assert.rejects(runner.prefill(chunk), { code: "device_lost" });
  await assert.rejects(
    runner.failure,
    (error) => error instanceof CotenantError && error.code === "device_lost",
  );
  runner.close("a");
  await model.close();
});
