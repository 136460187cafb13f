// Finetuning jobs in an engine on WebGPU: with and without gradients they take the CPU's steps beside a request, and
// what they make serves there.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { JobEvent, JobStart } from "../../finetuning/job.ts";
import type { DecodedAdapter } from "../../kernels/adapter.ts";
import type { Engine } from "../../scheduler/engine.ts";
import { startEngine } from "../../scheduler/engine-client.ts";
import { requestOf } from "../../scheduler/generation-request-fixture.ts";
import { defaultScheduling } from "../../scheduler/scheduling-options.ts";
import { goldenCase, temporaryCache } from "../golden/golden-case.ts";
import { eventsOf, examplesOf, smallStart } from "../training-job-fixture.ts";

const lossTolerance = 1e-4;
const logprobTolerance = 2e-4;

const golden = goldenCase("llama");
const cacheDirectory = temporaryCache();
const open = (device: "cpu" | "webgpu") =>
  startEngine(
    {
      modelDirectory: golden.directory,
      cacheDirectory,
      device,
      quantize: "none",
      maxRows: 2,
      maxContext: 128,
      threads: 1,
      scheduling: defaultScheduling,
    },
    () => undefined,
  );
const engines = { cpu: await open("cpu"), webgpu: await open("webgpu") };
after(async () => {
  for (const engine of Object.values(engines)) await engine.close();
});

const text = golden.prompts[1]!.slice(0, 8);

const methods = {
  lora: { rank: 2 },
  s2ft: { channels: 4 },
  sparse: {},
  mezo: { rank: 2 },
} as const;
type MethodName = keyof typeof methods;

/** Of one length: every other shape compiles for seconds on a software adapter. */
function start(method: MethodName): JobStart {
  const sequences = [0, 1, 2].map((shift) => text.map((token) => (token + shift) % 64));
  const spec = {
    method: { name: method, settings: methods[method] },
    warmupSteps: 0,
    batchSize: 3,
    passTokens: 24,
    windowTokens: method === "mezo" ? 48 : 24,
    epochs: 2,
  };
  const training = examplesOf(
    sequences.map((tokens) => ({ tokens, weights: tokens.map((_, at) => (at === 0 ? 0 : 1)) })),
  );
  return smallStart(spec, { training });
}

async function train(engine: Engine, method: MethodName): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  for await (const event of engine.train(start(method))) events.push(event);
  assert.equal(events.at(-1)!.type, "finished", JSON.stringify(events.at(-1)));
  return events;
}

async function logprobsOf(engine: Engine, adapterVersion: string | null): Promise<number[]> {
  const request = requestOf({ promptTokenIds: text, adapterVersion, maxTokens: 0, promptLogprobs: 0 });
  for await (const event of engine.generate(request)) {
    if (event.type === "prompt") return event.logprobs.slice(1).map((token) => token!.logprob);
  }
  throw new Error("no log-probabilities");
}

test("the engine says what training takes of the device", () => {
  assert.equal(engines.cpu.model.trainingBaseBytes, 0);
  assert.ok(engines.webgpu.model.trainingBaseBytes > 0);
  assert.equal(engines.webgpu.model.untrainable, null);
  assert.deepEqual(engines.webgpu.model.trainingPrecisions, ["float32"]);
});

for (const method of Object.keys(methods) as MethodName[]) {
  test(`${method}, beside a request`, async (t) => {
    const expected = await train(engines.cpu, method);
    const [events, beside] = await Promise.all([
      train(engines.webgpu, method),
      logprobsOf(engines.webgpu, null),
    ]);
    const losses = (all: readonly JobEvent[]) => eventsOf(all, "step").map(({ loss }) => loss);
    const [own, others] = [losses(events), losses(expected)];
    t.diagnostic(`losses ${own.join(", ")}`);
    assert.equal(own.length, others.length);
    for (const [step, loss] of own.entries()) {
      assert.ok(
        Math.abs(loss - others[step]!) <= lossTolerance,
        `step ${step + 1}: ${loss}, ${others[step]}`,
      );
    }
    const adapter: DecodedAdapter = eventsOf(events, "checkpoint").at(-1)!.adapter;
    for (const engine of Object.values(engines)) await engine.addAdapter(method, structuredClone(adapter));
    const served = await logprobsOf(engines.webgpu, method);
    for (const [at, logprob] of (await logprobsOf(engines.cpu, method)).entries()) {
      assert.ok(
        Math.abs(served[at]! - logprob) <= logprobTolerance,
        `token ${at + 1}: ${served[at]}, ${logprob}`,
      );
    }
    assert.notDeepEqual(served, beside, "the adapter changes nothing");
    const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
    if (method !== "mezo") assert.ok(sum(served) > sum(beside), "nothing was learned");
  });
}
