// 200 mixed requests give the same tokens and log-probabilities however they are served: alone, batched, preempted,
// with and without a prefix cache, while others come, are cancelled, and leave.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CpuRunner } from "../kernels/cpu/cpu-runner.ts";
import { adapterTargets } from "../kernels/model-family.ts";
import { randomAt } from "../kernels/sampling/random.ts";
import { greedySampling } from "../kernels/sampling/sampler.ts";
import { requestOf } from "../scheduler/generation-request-fixture.ts";
import { EngineLoop } from "../scheduler/loop.ts";
import type { EngineStats, FromEngine, GenerationRequest } from "../scheduler/protocol.ts";
import { defaultScheduling, type SchedulingOptions } from "../scheduler/scheduling-options.ts";
import { goldenCase, openGolden, temporaryCache } from "./golden/golden-case.ts";
import { randomAdapter, randomAdapterCount } from "./golden/random-adapters.ts";
import { isMeasuredProcessor } from "./measured-processor.ts";

const count = 200;
const chunkTokens = 128;

const golden = goldenCase("llama");
const { base, runner: first } = await openGolden(golden, { cacheDirectory: temporaryCache(), maxRows: 1 });
const { vocabSize } = base.config;
const versions = Array.from({ length: randomAdapterCount }, (_, index) => `v${index}`);

let draws = 0;
const below = (limit: number) => Math.floor(randomAt(2024, draws++) * limit);
const tokens = (length: number) => Array.from({ length }, () => 4 + below(150));
const sharedPrefixes = [tokens(128), tokens(256)];

const requests: readonly GenerationRequest[] = Array.from({ length: count }, (_, index) => ({
  ...requestOf(),
  id: `r${index}`,
  tenant: { id: `tenant ${below(4)}`, weight: 1 + below(3), rowsAtOnce: null },
  priority: below(3),
  adapterVersion: below(5) === 0 ? null : versions[below(versions.length)]!,
  promptTokenIds: [...(below(3) === 0 ? sharedPrefixes[below(2)]! : []), ...tokens(1 + below(60))],
  sampling: {
    ...greedySampling,
    temperature: below(3) === 0 ? 0 : 0.8,
    topP: below(2) === 0 ? 0.9 : 1,
    frequencyPenalty: below(4) === 0 ? 0.3 : 0,
    seed: below(2 ** 31),
  },
  maxTokens: 1 + below(14),
  logprobs: 1,
}));
/** Every ninth goes away after its second token. */
const isCancelled = (index: number) => index % 9 === 4;

type Way = {
  readonly maxRows: number;
  readonly maxKvBytes?: number;
  readonly maxPrefixBytes?: number;
  readonly scheduling?: Partial<SchedulingOptions>;
  readonly atOnce: number; // requests that are there at the same time
};

/** What each request was told, token by token. */
async function serve(way: Way): Promise<{ told: Map<string, string[]>; stats: EngineStats }> {
  const { maxRows, maxKvBytes, maxPrefixBytes = 0 } = way;
  const runner = new CpuRunner(base, {
    maxRows,
    maxContext: 512,
    maxPrefixBytes,
    ...(maxKvBytes && { maxKvBytes }),
  });
  const told = new Map<string, string[]>();
  const waiting = [...requests];
  let inside = 0;
  const enter = () => {
    while (inside < way.atOnce && waiting.length > 0) {
      inside++;
      loop.receive({ type: "submit", request: waiting.shift()! });
    }
  };
  const post = (message: FromEngine) => {
    if (message.type === "refused") assert.fail(`${message.id}: ${message.message}`);
    if (message.type !== "events") return;
    for (const [id, event] of message.events) {
      const own = told.get(id) ?? [];
      told.set(id, own);
      if (event.type === "token")
        own.push(`${event.tokenId} ${isMeasuredProcessor ? event.logprob!.logprob : ""}`);
      if (event.type === "finished") inside--;
      const leaves = isCancelled(Number(id.slice(1))) && event.type === "token" && own.length === 2;
      if (!leaves) continue;
      loop.receive({ type: "cancel", id });
      inside--;
    }
    enter();
  };
  const scheduling = { ...defaultScheduling, maxQueue: count, maxQueuePerTenant: count, ...way.scheduling };
  const options = {
    runner,
    scheduling,
    chunkTokens,
    promptTokensPerStep: 512,
    eosTokenIds: [2],
    vocabSize,
    post,
  };
  const loop = new EngineLoop(options);
  for (const [index, version] of versions.entries()) {
    loop.receive({
      type: "add-adapter",
      version,
      adapter: randomAdapter(adapterTargets(base.config), index),
    });
  }
  enter();
  while (inside > 0 || waiting.length > 0) {
    await loop.idle();
    enter();
  }
  return { told, stats: loop.stats() };
}

const alone = (await serve({ maxRows: 1, atOnce: 1 })).told;

const rowBytes = first.kvBytesOf(512);
const ways: Readonly<Record<string, Way>> = {
  batched: { maxRows: 16, atOnce: 40 },
  "batched, few adapters at once": { maxRows: 16, atOnce: 60, scheduling: { deviceSlots: 3 } },
  "with a prefix cache": { maxRows: 8, atOnce: 20, maxPrefixBytes: 64 * 2 ** 20 },
  preempted: { maxRows: 8, atOnce: 60, maxKvBytes: rowBytes },
  "preempted, with a prefix cache, first come": {
    maxRows: 8,
    atOnce: 50,
    maxKvBytes: rowBytes,
    maxPrefixBytes: 64 * 2 ** 20,
    scheduling: { policy: "first-come" },
  },
};

for (const [name, way] of Object.entries(ways)) {
  test(`${name}: as alone`, async () => {
    const { told, stats } = await serve(way);
    for (const [index, { id }] of requests.entries()) {
      const [expected, found] = [alone.get(id)!, told.get(id)!];
      // When a cancellation arrives is a matter of time: until then the text is the same.
      const length = isCancelled(index) ? Math.min(expected.length, found.length) : expected.length;
      assert.deepEqual(found.slice(0, length), expected.slice(0, length), id);
      if (!isCancelled(index)) assert.equal(found.length, length, id);
    }
    assert.equal(told.size, count);
    if (way.maxPrefixBytes) assert.ok(stats.prefixHitTokens > 1000, `${stats.prefixHitTokens} tokens reused`);
    // 8 to 18 of them: who is there when memory runs out depends on how fast the machine is just now.
    if (way.maxKvBytes) assert.ok(stats.preemptions > 2, `${stats.preemptions} preemptions`);
  });
}

test("the end", async () => first.dispose());
