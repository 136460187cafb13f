// What a job promises: the same numbers however often it stops, however its examples are packed, and no harm from
// numbers that are not finite. Whether they are the right numbers is tests/golden-gradients' business.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { adapterBytes } from "../kernels/adapter.ts";
import { randomAt } from "../kernels/sampling/random.ts";
import {
  eventsOf,
  examplesOf,
  openSmallKernel,
  randomExamples,
  runJob,
  smallStart,
} from "../tests/training-job-fixture.ts";
import type { JobEvent, TrainingExamples, TrainingSpec } from "./job.ts";
import { largestWindow } from "./largest-window.ts";
import { optimizers } from "./optimizers/index.ts";
import { TrainingJob } from "./training-job.ts";

let on: Awaited<ReturnType<typeof openSmallKernel>>;
before(async () => {
  on = await openSmallKernel();
});
after(() => on.kernel.close());

const run = (spec: Partial<TrainingSpec>, rest = {}) => runJob(smallStart(spec, rest), on);

/** The spec in a job's words, for a method and an optimizer. */
function specOf(method: string, optimizer: keyof typeof optimizers): Partial<TrainingSpec> {
  const settings = {
    lora: { rank: 2 },
    s2ft: { channels: 3 },
    ist: { rank: 2, layers: "ist", layers_per_step: 1, layers_period: 2 },
    lisa: { rank: 2, layers: "lisa", layers_per_step: 1, layers_period: 2 },
  }[method]!;
  const name = method === "s2ft" ? "s2ft" : "lora";
  return {
    method: { name, settings },
    optimizer: { name: optimizer, settings: optimizers[optimizer].defaults },
  };
}

const variants = [
  ...Object.keys(optimizers).flatMap((name) => [
    ["lora", name],
    ["s2ft", name],
  ]),
  ["ist", "adamw"],
  ["lisa", "adamw"],
] as [string, keyof typeof optimizers][];

for (const [method, optimizer] of variants) {
  test(`${method} by ${optimizer}: resumed equals uninterrupted, bit for bit`, async () => {
    const spec = specOf(method, optimizer);
    const whole = await run(spec);
    const stepsOf = (events: readonly JobEvent[]) => eventsOf(events, "step");
    const last = eventsOf(whole, "checkpoint").at(-1)!;
    assert.equal(whole.at(-1)!.type, "finished");
    assert.equal(stepsOf(whole).length, 6);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(80), { maxLength: 4 }), async (cuts) => {
        const events: JobEvent[] = [];
        let checkpoint = null;
        for (const cut of [...cuts, Number.POSITIVE_INFINITY]) {
          let units = 0;
          const part: JobEvent[] = await runJob(smallStart(spec, { checkpoint }), on, () => units++ >= cut);
          events.push(...part);
          if (part.at(-1)!.type === "finished") break;
          checkpoint = structuredClone(eventsOf(part, "checkpoint").at(-1)!.checkpoint);
        }
        assert.deepEqual(stepsOf(events), stepsOf(whole));
        assert.deepEqual(eventsOf(events, "checkpoint").at(-1), last);
      }),
      { numRuns: 4 },
    );
  });
}

test("paused amid a step's changes, the step is carried through and counts", async () => {
  const whole = await run({ checkpointSteps: 1 });
  const bare = eventsOf(whole, "checkpoint")[0]!;
  const { layers } = on.targets;
  for (const changes of [1, layers]) {
    // After the last backward unit: each layer's gradient and trial, which change nothing, then its change.
    let seen = Number.NEGATIVE_INFINITY;
    const events = await runJob(smallStart({}), on, (_, { kind }) => {
      if (kind === "backward") seen = -2 * layers;
      return kind === "update" && seen++ === changes;
    });
    assert.deepEqual(
      events.map(({ type }) => type),
      ["preparing", "started", "step", "checkpoint", "paused"],
    );
    const { checkpoint, adapter } = eventsOf(events, "checkpoint")[0]!;
    const values = { ...checkpoint.values, "job.checkedStep": 1 }; // a pause does not validate
    assert.deepEqual({ type: "checkpoint", checkpoint: { ...checkpoint, values }, adapter }, bare);
  }
});

test("a checkpoint is copied in units, and one that a pause meets is finished, not made again", async () => {
  const method = { name: "lora", settings: { rank: 256 } } as const;
  const spec = { method, checkpointSteps: 1, batchSize: 7 };
  let copies = 0;
  const isCopied = (events: readonly JobEvent[]) => events.at(-1)?.type === "step";
  const [whole] = eventsOf(
    await runJob(smallStart(spec), on, (events) => {
      copies += Number(isCopied(events) && events.length === 3);
      return false;
    }),
    "checkpoint",
  );
  const arrays = Object.values(whole!.checkpoint.arrays);
  const bytes = arrays.reduce((sum, { byteLength }) => sum + byteLength, adapterBytes(whole!.adapter));
  assert.ok(copies >= Math.floor(bytes / 2 ** 22) && copies > 1, `${copies} units for ${bytes} bytes`);
  for (let cut = 1; cut <= copies; cut++) {
    let seen = 0;
    const events = await runJob(smallStart(spec), on, (events) => isCopied(events) && ++seen === cut);
    assert.deepEqual(
      events.map(({ type }) => type),
      ["preparing", "started", "step", "checkpoint", "paused"],
    );
    assert.deepEqual(events[3], whole);
    for (const { buffer } of Object.values(eventsOf(events, "checkpoint")[0]!.checkpoint.arrays)) {
      structuredClone(buffer, { transfer: [buffer] }); // each is the event's own
    }
  }
});

test("a pause ends the step's changes and copies its checkpoint in units", async () => {
  const method = { name: "lora", settings: { rank: 256 } } as const;
  const events: JobEvent[] = [];
  const start = smallStart({ method, batchSize: 7 });
  const job = new TrainingJob(start, { ...on, report: (event) => events.push(event) });
  let seen = Number.NEGATIVE_INFINITY; // of the updates behind the last backward unit, as above
  for (const unit of job.units()) {
    if (unit.kind === "backward") seen = -2 * on.targets.layers;
    if (unit.kind === "update" && seen++ === 1) break; // amid the changes
    await unit.run();
  }
  const told: string[] = [];
  let copies = 0;
  for (const unit of job.pause()) {
    told.push(events.at(-1)!.type);
    await unit.run();
    copies += Number(events.at(-1)!.type === "step");
  }
  assert.deepEqual([...new Set(told)], ["started", "step"]);
  const { checkpoint, adapter } = eventsOf(events, "checkpoint")[0]!;
  const arrays = Object.values(checkpoint.arrays);
  const bytes = arrays.reduce((sum, { byteLength }) => sum + byteLength, adapterBytes(adapter));
  assert.ok(copies >= Math.floor(bytes / 2 ** 22) && copies > 1, `${copies} units for ${bytes} bytes`);
  assert.equal(events.at(-1)!.type, "paused");
});

test("paused before the first unit, a job starts anew", async () => {
  const none = await runJob(smallStart({}), on, () => true);
  const { checkpoint } = eventsOf(none, "checkpoint")[0]!;
  assert.equal(checkpoint.step, 0);
  const events = await runJob(smallStart({}, { checkpoint }), on);
  assert.deepEqual(eventsOf(events, "checkpoint"), eventsOf(await run({}), "checkpoint"));
});

test("how a step's examples are packed changes nothing but rounding", async () => {
  const packed = await run({ passTokens: 1000, windowTokens: 1000 });
  for (const [passTokens, windowTokens] of [
    [1, 16],
    [30, 7],
  ] as const) {
    const other = await run({ passTokens, windowTokens });
    for (const [index, { loss, gradientNorm }] of eventsOf(packed, "step").entries()) {
      const twin = eventsOf(other, "step")[index]!;
      assert.ok(Math.abs(twin.loss - loss) < 1e-5, `${twin.loss} ${loss}`);
      assert.ok(Math.abs(twin.gradientNorm! - gradientNorm!) < 1e-5 * gradientNorm!);
    }
  }
});

test("every example comes once per epoch, in an order by the seed", async () => {
  const tokens = (events: readonly JobEvent[]) => eventsOf(events, "step").map((step) => step.tokens);
  const total = randomExamples(7, 3).tokenIds.length;
  const first = tokens(await run({}));
  assert.equal(
    first.slice(0, 3).reduce((sum, count) => sum + count, 0),
    total,
  );
  assert.equal(
    first.slice(3).reduce((sum, count) => sum + count, 0),
    total,
  );
  assert.notDeepEqual(tokens(await run({ seed: 12 })), first);
});

test("steps that are not finite change nothing, and several in a row pause the job with the remedy", async () => {
  const training = randomExamples(7, 3);
  for (const end of training.ends) training.weights[end - 1] = Number.NaN;
  const start = smallStart({ maxSkippedSteps: 2 }, { training });
  const events = await runJob(start, on);
  assert.deepEqual(
    events.map(({ type }) => type),
    ["preparing", "started", "step", "step", "checkpoint", "paused"],
  );
  assert.ok(eventsOf(events, "step").every(({ skipped }) => skipped));
  const { reason } = eventsOf(events, "paused")[0]!;
  assert.equal(reason!.code, "training_not_finite");
  assert.match(reason!.message, /learning rate below 0\.01/);
  const untouched = await runJob(start, on, ([, event]) => event?.type === "started");
  const [after] = eventsOf(events, "checkpoint");
  const [initial] = eventsOf(untouched, "checkpoint");
  assert.deepEqual(after!.adapter, initial!.adapter);
  // Resumed, it has as many steps again.
  const again = await runJob({ ...start, checkpoint: after!.checkpoint }, on);
  assert.deepEqual(
    eventsOf(again, "step").map(({ step }) => step),
    [3, 4],
  );
});

for (const [name, optimizer] of [
  ["nothing over nothing", { name: "adamw", settings: { ...optimizers.adamw.defaults, epsilon: 0 } }],
  [
    "a mean that is corrected by nothing",
    { name: "adamw", settings: { ...optimizers.adamw.defaults, beta1: 1 } },
  ],
  ["in 8 bits", { name: "adamw-8bit", settings: { ...optimizers.adamw.defaults, beta1: 1 } }],
  [
    "a step beyond all numbers",
    { name: "sgd", settings: { ...optimizers.sgd.defaults, weightDecay: 1e300 } },
  ],
] as const) {
  test(`values that would not stay finite are not written: ${name}`, async () => {
    const start = smallStart({ optimizer, maxSkippedSteps: 2, maxGradientNorm: 0 });
    const events = await runJob(start, on);
    const steps = eventsOf(events, "step");
    assert.deepEqual(
      steps.map(({ skipped }) => skipped),
      [true, true],
    );
    assert.ok(
      steps.every(({ loss, gradientNorm }) => Number.isFinite(loss) && Number.isFinite(gradientNorm)),
    );
    assert.equal(eventsOf(events, "paused")[0]!.reason!.code, "training_not_finite");
    const untouched = await runJob(start, on, ([, event]) => event?.type === "started");
    const [after] = eventsOf(events, "checkpoint");
    const [initial] = eventsOf(untouched, "checkpoint");
    assert.deepEqual(after!.checkpoint.arrays, initial!.checkpoint.arrays);
  });
}

test("a step that is not finite is passed over, and the job goes on", async () => {
  const training = randomExamples(7, 3);
  training.weights[training.ends[1]! - 1] = Number.NaN; // of the second example: one step in each epoch
  const steps = eventsOf(await run({}, { training }), "step");
  assert.equal(steps.filter(({ skipped }) => skipped).length, 2);
  assert.ok(steps.filter(({ skipped }) => !skipped).every(({ loss }) => Number.isFinite(loss)));
});

function partOf({ tokenIds, weights, ends }: TrainingExamples, from: number, to: number): TrainingExamples {
  const first = from === 0 ? 0 : ends[from - 1]!;
  return {
    tokenIds: tokenIds.slice(first, ends[to - 1]),
    weights: weights.slice(first, ends[to - 1]),
    ends: ends.slice(from, to).map((end) => end - first),
  };
}

test("a validation of many examples is packed piece by piece, and is the mean of all", async () => {
  const validation = randomExamples(700, 8);
  const spec = { checkpointSteps: 6, passTokens: 64, windowTokens: 64 };
  const [whole] = eventsOf(await run(spec, { validation }), "validation");
  const losses = [];
  for (const [from, to] of [
    [0, 256],
    [256, 512],
    [512, 700],
  ] as const) {
    const part = partOf(validation, from, to);
    const { loss } = eventsOf(await run(spec, { validation: part }), "validation")[0]!;
    losses.push({ loss, weight: part.weights.reduce((sum, weight) => sum + weight, 0) });
  }
  const weight = losses.reduce((sum, part) => sum + part.weight, 0);
  const mean = losses.reduce((sum, part) => sum + part.loss * part.weight, 0) / weight;
  assert.ok(Math.abs(whole!.loss - mean) < 1e-6);

  // A job is opened, and asked for its first unit, before any of them is looked at.
  const unread = new Proxy(validation.ends, {
    get: (ends, name) => {
      assert.doesNotMatch(String(name), /^[0-9]+$|at|forEach|iterator/, "an example was looked at");
      return Reflect.get(ends, name);
    },
  });
  const start = smallStart(spec, { validation: { ...validation, ends: unread } });
  new TrainingJob(start, { ...on, report: () => undefined }).units().next();
});

test("a window that is too long for the base is cut to the largest", async () => {
  const base = { ...on.targets.shapes, down: { in: 1e4, out: 1e4 } };
  assert.equal(largestWindow({ shapes: base }), 16);
  const method = { name: "lora", settings: { rank: 2, target_modules: ["q_proj"] } } as const;
  const spec = { method, batchSize: 20, passTokens: 200, windowTokens: 1024 };
  const targets = { ...on.targets, shapes: base };
  const start = smallStart(spec, { training: randomExamples(20, 3) });
  let most = 0;
  for (const unit of new TrainingJob(start, { ...on, targets, report: () => undefined }).units()) {
    most = Math.max(most, unit.tokens);
    await unit.run();
    if (unit.kind === "loss") break;
  }
  assert.equal(most, 16);
});

test("validation is measured at every checkpoint, and does not change the training", async () => {
  const spec = { checkpointSteps: 4 };
  const plain = await run(spec);
  const events = await run(spec, { validation: randomExamples(3, 8) });
  const types = events.map(({ type }) => type);
  assert.equal(
    types.join(" "),
    `preparing started${" step".repeat(4)} validation checkpoint step step validation checkpoint finished`,
  );
  assert.deepEqual(eventsOf(events, "checkpoint"), eventsOf(plain, "checkpoint"));
  assert.deepEqual(
    eventsOf(events, "validation").map(({ step }) => step),
    [4, 6],
  );
});

test("a validation that a pause cut off is made up for, at the end too", async () => {
  const given = { validation: randomExamples(5, 8) };
  const spec = { checkpointSteps: 4 };
  const whole = await run(spec, given);
  const { length: steps } = eventsOf(whole, "step");
  for (const step of [4, steps]) {
    const first = await runJob(smallStart(spec, given), on, (events) => {
      const last = events.at(-1)!;
      return last.type === "step" && last.step === step; // the next units are the validation's
    });
    const { checkpoint } = eventsOf(first, "checkpoint").at(-1)!;
    assert.equal(checkpoint.step, step);
    const rest = await run(spec, { ...given, checkpoint });
    assert.deepEqual(
      [...eventsOf(first, "validation"), ...eventsOf(rest, "validation")],
      eventsOf(whole, "validation"),
    );
    assert.deepEqual(eventsOf(rest, "checkpoint").at(-1), eventsOf(whole, "checkpoint").at(-1));
  }
});

test("a job's own training examples, validated, have the loss that the next step sees", async () => {
  const training = randomExamples(4, 3);
  const spec = { checkpointSteps: 1, batchSize: 4, epochs: 3 };
  const events = await run(spec, { training, validation: training });
  const validated = eventsOf(events, "validation").map(({ loss }) => loss);
  const seen = eventsOf(events, "step").map(({ loss }) => loss);
  for (const step of [0, 1]) assert.ok(Math.abs(validated[step]! - seen[step + 1]!) < 1e-5);
});

test("a pass' hits are the tokens than which no other is likelier", async () => {
  const { vocabSize } = on.targets;
  const start = [5, 9, 2];
  const sequences = Array.from({ length: vocabSize }, (_, tokenId) => ({
    tokenIds: [...start, tokenId],
    scored: [start.length],
  }));
  const pass = on.kernel.pass(sequences, { modules: [], train: false });
  for (const unit of pass.forward()) await unit.run();
  const logprobs = pass.logprobs();
  const likeliest = logprobs.indexOf(Math.max(...logprobs));
  assert.deepEqual(
    [...pass.hits().entries()].filter(([, hit]) => hit === 1).map(([tokenId]) => tokenId),
    [likeliest],
  );
});

test("accuracy is the share of the scored tokens' weight that is right: none at first, all once it is learned", async () => {
  const training = examplesOf([{ tokens: [7, 11, 13, 17], weights: [0, 0, 1, 3] }]);
  const spec = { batchSize: 1, epochs: 40, checkpointSteps: 40, warmupSteps: 0, learningRate: 0.05 };
  const events = await run(spec, { training, validation: training });
  const accuracies = eventsOf(events, "step").map(({ metrics }) => metrics.meanTokenAccuracy!);
  assert.ok(
    accuracies.every((accuracy) => [0, 0.25, 0.75, 1].includes(accuracy)),
    `${accuracies}`,
  );
  assert.deepEqual([accuracies[0], accuracies.at(-1)], [0, 1]);
  assert.equal(eventsOf(events, "validation")[0]!.metrics.meanTokenAccuracy, 1);
});

test("dpo: the loss starts at log 2, then falls, and margins rise", async () => {
  const draw = (pair: number, at: number) => Math.floor(randomAt(pair, at) * 64);
  const sequences = Array.from({ length: 12 }, (_, index) => {
    const pair = Math.floor(index / 2);
    const prompt = [draw(pair, 0), draw(pair, 1), draw(pair, 2)];
    const answer = [3, 4, 5].map((at) => draw(index + 100, at));
    return { tokens: [...prompt, ...answer], weights: [0, 0, 0, 1, 1, 1] };
  });
  const steps = eventsOf(
    await run(
      { objective: { name: "dpo", beta: 0.5 }, epochs: 12, warmupSteps: 0, batchSize: 6, passTokens: 36 },
      { training: examplesOf(sequences) },
    ),
    "step",
  );
  assert.equal(steps.length, 12);
  assert.ok(Math.abs(steps[0]!.loss - Math.LN2) < 1e-6);
  assert.equal(steps[0]!.metrics.rewardMargin, 0);
  assert.equal(steps[0]!.metrics.meanTokenAccuracy, undefined); // a likely answer may be the rejected one
  const { loss, metrics } = steps.at(-1)!;
  assert.ok(loss < 0.3 && metrics.rewardMargin! > 1 && metrics.preferred === 1, JSON.stringify(steps.at(-1)));
});

test("dpo: the reference of validation is computed once, and a resumed job's losses are the same to the bit", async () => {
  const spec = {
    objective: { name: "dpo", beta: 0.5 },
    batchSize: 4,
    checkpointSteps: 1,
    epochs: 4,
  } as const;
  const start = smallStart(spec, { training: randomExamples(8, 3), validation: randomExamples(8, 4) });
  const unitsOfStep: number[] = []; // by how many steps are done, its validation's with it
  const events = await runJob(start, on, (events) => {
    const done = eventsOf(events, "step").length;
    unitsOfStep[done] = (unitsOfStep[done] ?? 0) + 1;
    return false;
  });
  const [, first, ...others] = unitsOfStep.slice(0, -1); // the last validation has no step behind it
  assert.ok(others.length === 2 && others.every((units) => units < first!), `${unitsOfStep}`);
  const losses = eventsOf(events, "validation").map(({ loss }) => loss);
  for (const { checkpoint } of eventsOf(events, "checkpoint").slice(0, -1)) {
    const resumed = await runJob({ ...start, checkpoint }, on);
    const later = eventsOf(resumed, "validation").map(({ loss }) => loss);
    assert.deepEqual(later, losses.slice(checkpoint.step));
  }
});

test("a checkpoint of another job is refused", async () => {
  const [checkpoint] = eventsOf(await run({}), "checkpoint");
  const foreign = smallStart(specOf("s2ft", "adamw"), { checkpoint: checkpoint!.checkpoint });
  await assert.rejects(runJob(foreign, on), RangeError);
});
