// The two halves of a co-serving round against engines that are scripts: what is counted, and that failures are told.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { JobEvent } from "../../finetuning/job.ts";
import { requestOf } from "../../scheduler/generation-request-fixture.ts";
import type { GenerationEvent, GenerationRequest } from "../../scheduler/protocol.ts";
import { ServingLoad } from "./serving-load.ts";
import { SteppingJob } from "./stepping-job.ts";

const serving = (fails: (id: string) => boolean = () => false) => {
  const asked: string[] = [];
  async function* generate({ id }: GenerationRequest): AsyncGenerator<GenerationEvent> {
    asked.push(id);
    await delay(2);
    yield { type: "token", tokenId: 1, logprob: null };
    if (fails(id)) throw new Error("lost");
    yield { type: "token", tokenId: 2, logprob: null };
  }
  return { asked, load: new ServingLoad({ generate }, (index) => requestOf({ id: `${index}` })) };
};

test("closed loop: so many requests of each client, and a failure is no capacity", async () => {
  const { asked, load } = serving();
  assert.ok((await load.closed(3, 4)) > 0);
  assert.equal(asked.length, 12);
  assert.equal(new Set(asked).size, 12);
  await assert.rejects(serving((id) => id === "5").load.closed(3, 4), /a request failed: lost/);
});

test("open loop: requests come while the work goes on, all are recorded, and none comes after", async () => {
  const { asked, load } = serving((id) => id === "1");
  const { result, records } = await load.open({ requestsPerSecond: 200, seed: 1 }, () => delay(100, "done"));
  assert.equal(result, "done");
  assert.ok(records.length > 2 && records.length === asked.length, `${records.length} of ${asked.length}`);
  assert.deepEqual(
    records.filter(({ error }) => error !== null).map(({ outcome, outputTokens }) => [outcome, outputTokens]),
    [["failed", 1]],
  );
  for (const { dueMs, sentMs, chunkMs, endedMs } of records) {
    assert.ok(dueMs <= sentMs + 2 && sentMs <= chunkMs[0]! && chunkMs.at(-1)! <= endedMs);
  }
  await delay(50);
  assert.equal(asked.length, records.length);
  await assert.rejects(
    load.open({ requestsPerSecond: 200, seed: 1 }, () => Promise.reject(new Error("no"))),
    /^Error: no$/,
  );
  const before = asked.length;
  await delay(50);
  assert.equal(asked.length, before);
});

const step: JobEvent = {
  type: "step",
  step: 1,
  tokens: 100,
  loss: 1,
  metrics: {},
  learningRate: 1,
  gradientNorm: null,
  skipped: false,
};

const job = (events: (signal: AbortSignal) => AsyncGenerator<JobEvent>) =>
  new SteppingJob({ train: (_, signal) => events(signal!) }, {} as never);

test("training's speed is that of whole steps, for as long as wanted at least", async () => {
  const stepMs = 20;
  const running = job(async function* (signal) {
    while (!signal.aborted) {
      await delay(stepMs);
      yield step;
    }
  });
  const startMs = performance.now();
  const perSecond = await running.throughput(5 * stepMs);
  assert.ok(performance.now() - startMs >= 5 * stepMs);
  assert.ok(perSecond > 0 && perSecond <= 1.05 * (100 / (stepMs / 1000)), `${perSecond}`);
  await running.drop();
});

test("a job that fails or ends fails the measurement", async () => {
  const failing = job(async function* () {
    yield step;
    await delay(5);
    yield { type: "failed", code: "training_failed", message: "no memory" };
  });
  await assert.rejects(failing.throughput(1000), /training_failed: no memory/);
  const ending = job(async function* () {
    yield { type: "finished" };
  });
  await assert.rejects(ending.step(), /the job ended/);
});
