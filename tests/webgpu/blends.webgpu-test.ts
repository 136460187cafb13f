// Blends, comparisons and scored prompts through an engine on WebGPU, where they are made on the device: what the engine on
// the CPU, which makes them on the host, says.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { describeCheckpoint } from "../../kernels/base-model.ts";
import { greedySampling } from "../../kernels/sampling/sampler.ts";
import { compareVersions } from "../../scheduler/compare.ts";
import type { Engine } from "../../scheduler/engine.ts";
import { startEngine } from "../../scheduler/engine-client.ts";
import { requestOf } from "../../scheduler/generation-request-fixture.ts";
import type { GenerationEvent, GenerationRequest, TokenLogprob } from "../../scheduler/protocol.ts";
import { defaultScheduling } from "../../scheduler/scheduling-options.ts";
import { goldenAdapter, goldenCase, temporaryCache } from "../golden/golden-case.ts";

const tolerance = 5e-4; // of log-probabilities; a blend's weights make its members' differences larger

const golden = goldenCase("llama");
const cacheDirectory = temporaryCache();
async function open(device: "cpu" | "webgpu"): Promise<Engine> {
  const engine = await startEngine(
    {
      modelDirectory: golden.directory,
      cacheDirectory,
      device,
      quantize: "none",
      maxRows: 5,
      maxContext: 128,
      threads: 1,
      scheduling: defaultScheduling,
    },
    () => undefined,
  );
  const { config } = describeCheckpoint(golden.directory);
  for (const name of ["wide", "narrow"]) {
    await engine.addAdapter(name, goldenAdapter(golden, name, { config }));
  }
  return engine;
}
const engines = { cpu: await open("cpu"), webgpu: await open("webgpu") };
after(async () => {
  for (const engine of Object.values(engines)) await engine.close();
});

const promptTokenIds = [5, 90, 33, 12, 151, 7, 64, 21, 8];
const members = [
  { adapterVersion: null, weight: 1 - 2 + 0.5 },
  { adapterVersion: "wide", weight: 2 },
  { adapterVersion: "narrow", weight: -0.5 },
];
const warm = { ...greedySampling, temperature: 1, repetitionPenalty: 1.2, seed: 5 };

/** They decode together: three rows of a blend, two of others. */
const requests: readonly GenerationRequest[] = [
  requestOf({
    id: "blend",
    blend: { type: "logits", members },
    promptLogprobs: 2,
    logprobs: 1,
    maxTokens: 3,
  }),
  requestOf({ id: "plain", adapterVersion: "wide", logprobs: 0, maxTokens: 3 }),
  requestOf({ id: "scored", adapterVersion: "narrow", promptLogprobs: 0, sampling: warm, maxTokens: 3 }),
].map((request) => ({ ...request, promptTokenIds }));

async function eventsOf(engine: Engine, request: GenerationRequest): Promise<GenerationEvent[]> {
  const events: GenerationEvent[] = [];
  for await (const event of engine.generate(request)) events.push(event);
  return events;
}

function logprobsOf(events: readonly GenerationEvent[]): (TokenLogprob | null)[] {
  return events.flatMap((event) => {
    if (event.type === "prompt") return event.logprobs;
    return event.type === "token" ? [event.logprob ?? { tokenId: event.tokenId, logprob: 0, top: [] }] : [];
  });
}

test("blends and scored prompts beside others", async () => {
  const all = (engine: Engine) => Promise.all(requests.map((request) => eventsOf(engine, request)));
  const [found, expected] = [await all(engines.webgpu), await all(engines.cpu)];
  for (const [index, { id }] of requests.entries()) {
    const [own, others] = [logprobsOf(found[index]!), logprobsOf(expected[index]!)];
    assert.ok(own.length > 0 && own.length === others.length, id);
    for (const [at, told] of own.entries()) {
      const wanted = others[at]!;
      if (wanted === null) assert.equal(told, null, id);
      else assertClose(told!, wanted, `${id}, token ${at}`);
    }
  }
});

function assertClose(found: TokenLogprob, expected: TokenLogprob, what: string): void {
  const all = ({ tokenId, logprob, top }: TokenLogprob) => [[tokenId, logprob] as const, ...top];
  const [own, others] = [all(found), all(expected)];
  assert.deepEqual(
    own.map(([id]) => id),
    others.map(([id]) => id),
    what,
  );
  for (const [rank, [, logprob]] of own.entries()) {
    assert.ok(Math.abs(logprob - others[rank]![1]) <= tolerance, `${what}: ${logprob}, ${others[rank]![1]}`);
  }
}

test("an adapter is as far from the base, and no way from itself", async () => {
  const tenant = { id: "tenant", weight: 1, rowsAtOnce: null };
  const compare = (engine: Engine, b: string | null) =>
    compareVersions(engine, { id: "compare", tenant, a: "wide", b, prompts: [promptTokenIds] });
  const [found, expected] = [await compare(engines.webgpu, null), await compare(engines.cpu, null)];
  assert.ok(expected.meanKl > 0.001);
  for (const name of ["meanKl", "maxKl"] as const) {
    assert.ok(
      Math.abs(found[name] - expected[name]) <= 1e-3 * expected[name],
      `${found[name]}, ${expected[name]}`,
    );
  }
  assert.equal(found.top1Agreement, expected.top1Agreement);
  assert.equal(found.tokens, expected.tokens);
  assert.deepEqual(await compare(engines.webgpu, "wide"), {
    meanKl: 0,
    maxKl: 0,
    top1Agreement: 1,
    tokens: promptTokenIds.length,
  });
});
