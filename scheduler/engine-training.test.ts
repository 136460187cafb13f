// Finetuning in the engine's thread while it generates: the job's result is what it is alone, to the bit, and so is
// what requests get before, meanwhile and afterwards.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { JobEvent, JobStart } from "../finetuning/job.ts";
import type { AdapterTargets, DecodedAdapter } from "../kernels/adapter.ts";
import { randomAdapter } from "../kernels/random-adapter.ts";
import { goldenCase, temporaryCache } from "../tests/golden/golden-case.ts";
import { eventsOf, openSmallKernel, runJob, smallStart } from "../tests/training-job-fixture.ts";
import { startEngine } from "./engine-client.ts";
import { requestOf } from "./generation-request-fixture.ts";
import type { EngineOptions, GenerationEvent } from "./protocol.ts";
import { defaultScheduling } from "./scheduling-options.ts";

const golden = goldenCase("llama");
const small = await openSmallKernel();
after(() => small.kernel.close());
const options: EngineOptions = {
  modelDirectory: golden.directory,
  cacheDirectory: temporaryCache(),
  device: "cpu",
  quantize: "none",
  maxRows: 4,
  maxContext: 0,
  threads: 1,
  scheduling: { ...defaultScheduling, tpotTargetMs: 10 }, // so that both get on
};
const engine = await startEngine(options, () => undefined);
after(() => engine.close());

/** Steps enough that requests come and go meanwhile. */
const job = (changes: Partial<JobStart> = {}) => smallStart({ epochs: 30, checkpointSteps: 40 }, changes);

async function train(start: JobStart, onEvent: (event: JobEvent) => void = () => {}) {
  const events: JobEvent[] = [];
  for await (const event of engine.train(start)) {
    events.push(event);
    onEvent(event);
  }
  return told(events);
}

function told(events: readonly JobEvent[]) {
  return {
    types: events.map(({ type }) => type),
    losses: eventsOf(events, "step").map(({ loss }) => loss),
    last: eventsOf(events, "checkpoint").at(-1)!,
    codes: eventsOf(events, "failed").map(({ code }) => code),
  };
}

/** With log-probabilities, which show more bits than tokens do. */
async function generate(id: string, adapterVersion: string | null = null): Promise<GenerationEvent[]> {
  const events: GenerationEvent[] = [];
  const request = { id, promptTokenIds: golden.prompts[1]!, adapterVersion, maxTokens: 10, logprobs: 2 };
  for await (const event of engine.generate(requestOf(request)))
    if (event.type === "token") events.push(event);
  return events;
}

const alone = told(await runJob(job(), small));

test("a job beside requests gives what it gives alone, and changes no bit of theirs", async () => {
  const before = await generate("before");
  let isOver = false;
  const training = train(job()).finally(() => {
    isOver = true;
  });
  let meanwhile = 0;
  for (; !isOver; meanwhile++) assert.deepEqual(await generate(`meanwhile ${meanwhile}`), before);
  assert.ok(meanwhile >= 1);
  const beside = await training;
  assert.deepEqual(await generate("after"), before);
  assert.deepEqual(beside, alone);
  assert.ok(beside.types.filter((type) => type === "checkpoint").length > 1);
  await engine.addAdapter("trained", beside.last.adapter);
  const trained = await generate("trained", "trained");
  assert.notDeepEqual(trained, before);
  const { training: stats } = engine.stats;
  assert.ok(
    stats.steps >= alone.losses.length && Object.keys(stats.units).length > 3 && stats.unitsDeferred > 0,
  );
});

for (const name of ["mezo", "sparse-mezo"] as const) {
  test(`${name}: probes in the session that serves change no bit of any tenant, and none of theirs is changed`, async () => {
    const spec = { method: { name, settings: { rank: 3 } }, epochs: 60, checkpointSteps: 30 };
    const own = told(await runJob(smallStart(spec), small));
    await engine.addAdapter(`${name}'s neighbour`, randomAdapter(small.targets, 9, 5));
    const both = async (id: string) => [
      await generate(`${id}, base`),
      await generate(`${id}, adapter`, `${name}'s neighbour`),
    ];
    const before = await both(`before ${name}`);
    let isOver = false;
    const training = train(smallStart(spec)).finally(() => {
      isOver = true;
    });
    let meanwhile = 0;
    for (; !isOver; meanwhile++) {
      assert.deepEqual(await both(`beside ${name} ${meanwhile}`), before);
      if (meanwhile > 0) continue;
      await engine.addAdapter(`${name}'s scales`, scalesOf(small.targets)); // the session is opened anew for it
      await generate(`scales beside ${name}`, `${name}'s scales`);
    }
    assert.ok(meanwhile > 1);
    assert.deepEqual(await training, own);
    assert.deepEqual(await both(`after ${name}`), before);
  });
}

function scalesOf({ layers, shapes }: AdapterTargets): DecodedAdapter {
  return {
    modules: Array.from({ length: layers }, (_, layer) => ({
      kind: "scale",
      layer,
      projection: "up",
      scale: new Float32Array(shapes.up.out).fill(1.5),
      shift: null,
    })),
  };
}

test("paused in the middle of a step and started again from its checkpoint, a job ends with the same adapter", async () => {
  const paused = await train(job(), (event) => {
    if (event.type === "step" && event.step === 17) engine.pauseTraining("job");
  });
  assert.deepEqual(paused.types.slice(-2), ["checkpoint", "paused"]);
  const { checkpoint } = paused.last;
  assert.ok(checkpoint.step >= 17 && checkpoint.step < alone.losses.length);
  const resumed = await train(job({ checkpoint }));
  assert.deepEqual(resumed.losses, alone.losses.slice(checkpoint.step));
  assert.deepEqual(resumed.last, alone.last);
});

test("checkpoints are made no faster than they are taken, and a job that waits for it can be paused", async () => {
  const start = smallStart({ epochs: 30, checkpointSteps: 1 });
  const types: JobEvent["type"][] = [];
  await delay(200); // until the statistics are of now
  const stepsBefore = engine.stats.training.steps;
  for await (const event of engine.train(start)) {
    types.push(event.type);
    if (event.type !== "checkpoint" || types.length > 12) continue;
    await delay(150); // as storage would take
    const made = engine.stats.training.steps - stepsBefore;
    assert.ok(made <= types.filter((type) => type === "step").length, `${made} steps before ${types}`);
    if (types.length > 8) engine.pauseTraining("job");
  }
  assert.deepEqual(types, [
    "preparing",
    "started",
    ...["step", "checkpoint", "step", "checkpoint", "step", "checkpoint", "step", "checkpoint"],
    ...["checkpoint", "paused"],
  ]);
});

test("aborting drops a job; the next run of the same id hears nothing of it", async () => {
  const controller = new AbortController();
  await assert.rejects(async () => {
    for await (const { type } of engine.train(job(), controller.signal)) {
      if (type === "step") controller.abort(new Error("enough"));
    }
  }, /enough/);
  assert.deepEqual(await train(job()), alone);
});

test("the same id twice at once is refused, and the one that runs goes on", async () => {
  const running = train(job());
  await assert.rejects(train(job()), { code: "duplicate_job" });
  assert.deepEqual(await running, alone);
});

test("a job that does not fit fails with both numbers", async () => {
  const huge = job();
  const refused = await train({ ...huge, spec: { ...huge.spec, passTokens: 1e9 } });
  assert.deepEqual(refused.codes, ["training_memory_exceeded"]);
});

test("close ends a job's stream with server_closing", async () => {
  const closing = await startEngine(options, () => undefined);
  let closed: Promise<void> | null = null;
  await assert.rejects(
    async () => {
      for await (const { type } of closing.train(smallStart({ epochs: 1000 }))) {
        if (type === "step") closed ??= closing.close();
      }
    },
    { code: "server_closing" },
  );
  await closed;
});
