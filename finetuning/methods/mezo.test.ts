// MeZO against gradients, its ledger against the container that it is served from, and a job that stops at any unit.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { addSigns, decodeLedger, encodeLedger } from "../../adapters-store/codecs/ledger.ts";
import { memorySource } from "../../adapters-store/container/byte-source.ts";
import { readContainer } from "../../adapters-store/container/read-container.ts";
import { writeContainer } from "../../adapters-store/container/write-container.ts";
import { modulesOf } from "../../kernels/adapter.ts";
import { LowRankParameters } from "../../kernels/training/low-rank-parameters.ts";
import type { TrainingUnit } from "../../kernels/training/training-pass.ts";
import {
  eventsOf,
  openSmallKernel,
  randomExamples,
  runJob,
  smallSpec,
  smallStart,
} from "../../tests/training-job-fixture.ts";
import { measureEach } from "../example-pass.ts";
import { ExamplePasses } from "../example-passes.ts";
import { servingPasses } from "../forward-passes.ts";
import { checkSettings } from "../settings.ts";
import { moduleShapes } from "./low-rank/low-rank-settings.ts";
import { mezoSettings } from "./mezo.ts";
import { stepSeed } from "./mezo-stepper.ts";
import { ledgerOf, seedLedgerAfter } from "./seed-ledger-of.ts";

let on: Awaited<ReturnType<typeof openSmallKernel>>;
before(async () => {
  on = await openSmallKernel();
});
after(() => on.kernel.close());

const jobs = {
  mezo: { name: "mezo", settings: { rank: 3, target_modules: ["q_proj", "down_proj"] } },
  "sparse-mezo": { name: "sparse-mezo", settings: { rank: 2, share: 0.4, mask_steps: 2 } },
} as const;
const startOf = (name: keyof typeof jobs, rest: Parameters<typeof smallStart>[1] = {}) =>
  smallStart({ method: jobs[name], epochs: 3, checkpointSteps: 2, learningRate: 1e-2 }, rest);

async function outcome<Result>(units: Generator<TrainingUnit, Result, void>): Promise<Result> {
  for (let next = units.next(); ; next = units.next()) {
    if (next.done === true) return next.value;
    await next.value.run();
  }
}

test("the slope of two forward passes is the gradient's along the signs", async () => {
  const { kernel, probes, targets } = on;
  const settings = checkSettings(mezoSettings, { rank: 3, target_modules: ["q_proj", "o_proj"] }, "");
  const parameters = new LowRankParameters(moduleShapes(settings, targets.layers), targets);
  addSigns(parameters.flat, { seed: 4, scalar: 0.1 }, 0);
  const examples = randomExamples(6, 9);
  const forward = servingPasses(probes, 16);
  const passes = new ExamplePasses({ kernel, forward, spec: smallSpec, examples }).of([0, 3, 5]);
  const gradients = new LowRankParameters(parameters.modules, targets);
  let weight = 0;
  for (const pass of passes) {
    weight += (await outcome(pass.differentiate(parameters.modules, gradients, 0))).weight;
  }
  const losses = async (epsilon: number) => {
    const adapters = [epsilon, -epsilon].map((scalar) => {
      const moved = new LowRankParameters(parameters.modules, targets);
      moved.flat.set(parameters.flat);
      addSigns(moved.flat, { seed: 77, scalar }, 0);
      return moved.modules;
    });
    return (await outcome(measureEach(passes, adapters))).map(({ loss }) => loss);
  };
  const signs = new Float64Array(gradients.flat.length);
  addSigns(signs, { seed: 77, scalar: 1 }, 0);
  const expected = gradients.flat.reduce((sum, value, i) => sum + value * signs[i]!, 0) / weight;
  const errors = [];
  for (const epsilon of [3e-3, 1e-3]) {
    const [up, down] = await losses(epsilon);
    const slope = (up! - down!) / (2 * epsilon);
    errors.push(Math.abs(slope - expected) / Math.abs(expected));
  }
  assert.ok(errors[1]! < 1e-2 && errors[1]! < errors[0]!, `${errors} of ${expected}`);
});

for (const name of ["mezo", "sparse-mezo"] as const) {
  test(`${name}: a result is its ledger, bit for bit, in a few kilobytes`, async () => {
    const start = startOf(name);
    const checkpoints = eventsOf(await runJob(start, on), "checkpoint");
    const ledger = ledgerOf(start.spec, checkpoints.at(-1)!.checkpoint)!;
    for (const { checkpoint, adapter } of checkpoints) {
      const content = seedLedgerAfter(checkpoint.step, ledger, { ...start, ...on });
      const file = writeContainer({ ...content, baseFingerprint: "base", lineage: null, metadata: {} });
      const read = readContainer(memorySource(file), { targets: on.targets, fingerprint: "base" });
      assert.deepEqual(read.adapter, adapter);
      assert.ok(modulesOf(adapter, "low-rank").some(({ b }) => b.some((value) => value !== 0)));
      assert.equal(content.ledger.length, 4 + 8 * checkpoint.step);
      assert.ok(file.length - content.ledger.length < 2000, "1,000 steps are 8 kB and the manifest");
    }
  });

  test(`${name}: resumed is uninterrupted, wherever it was paused`, async () => {
    const whole = eventsOf(await runJob(startOf(name), on), "checkpoint").at(-1)!;
    for (const pauseAt of [1, 20, 57, 90]) {
      let units = 0;
      const paused = await runJob(startOf(name), on, () => units++ === pauseAt);
      const { checkpoint } = eventsOf(paused, "checkpoint").at(-1)!;
      const resumed = eventsOf(await runJob(startOf(name, { checkpoint }), on), "checkpoint").at(-1)!;
      assert.deepEqual(resumed.checkpoint, whole.checkpoint);
      assert.deepEqual(resumed.adapter, whole.adapter);
    }
  });

  test(`${name}: so is a job that went on from an adapter`, async () => {
    const from = eventsOf(await runJob(startOf(name), on), "checkpoint").at(-1)!.adapter;
    const whole = eventsOf(await runJob(startOf(name, { from }), on), "checkpoint");
    assert.notDeepEqual(whole.at(-1)!.adapter, from);
    const { checkpoint } = whole[0]!;
    const resumed = eventsOf(await runJob(startOf(name, { from, checkpoint }), on), "checkpoint").at(-1)!;
    assert.deepEqual(resumed.checkpoint, whole.at(-1)!.checkpoint);
  });
}

test("a ledger has no entry for a step that was skipped, and is cut where a checkpoint was", () => {
  const { spec } = startOf("mezo");
  const steps = [0, 2, 3].map((index) => ({ seed: stepSeed(spec.seed, index), scalar: index }));
  const ledger = encodeLedger(spec.seed, steps);
  const after = (step: number) =>
    decodeLedger(seedLedgerAfter(step, ledger, { spec, targets: on.targets }).ledger).steps;
  for (const [step, count] of [0, 1, 1, 2, 3].entries()) assert.deepEqual(after(step), steps.slice(0, count));
});

test("sparse-mezo moves the small values of every matrix and no others", async () => {
  const settings = { rank: 4, share: 0.25, mask_steps: 1000, target_modules: ["q_proj"] };
  const start = smallStart({
    method: { name: "sparse-mezo", settings },
    checkpointSteps: 1,
    learningRate: 1e-2,
  });
  const still = { ...start, spec: { ...start.spec, learningRate: 1e-30 } };
  const first = modulesOf(eventsOf(await runJob(still, on), "checkpoint")[0]!.adapter, "low-rank");
  const last = modulesOf(eventsOf(await runJob(start, on), "checkpoint").at(-1)!.adapter, "low-rank");
  for (const [index, { a }] of last.entries()) {
    const initial = first[index]!.a;
    const threshold = Float32Array.from(initial, Math.abs).sort()[Math.ceil(a.length / 4) - 1]!;
    for (const [i, value] of a.entries()) {
      assert.equal(value !== initial[i], Math.abs(initial[i]!) <= threshold, `${i}`);
    }
  }
});

test("a preference is learned by forward passes alone", async () => {
  const training = randomExamples(8, 21);
  const objective = { name: "dpo", beta: 0.5 } as const;
  const start = smallStart({ method: jobs.mezo, objective, learningRate: 1e-2, epochs: 30 }, { training });
  const steps = eventsOf(await runJob(start, on), "step");
  const mean = (part: typeof steps) => part.reduce((sum, { loss }) => sum + loss, 0) / part.length;
  assert.ok(Math.abs(steps[0]!.loss - Math.log(2)) < 0.05);
  assert.ok(mean(steps.slice(-10)) < mean(steps.slice(0, 10)) - 0.01, `${mean(steps.slice(-10))}`);
  assert.ok(steps.every(({ gradientNorm }) => gradientNorm === null));
});

test("a step that is not finite changes nothing", async () => {
  const start = smallStart({
    method: jobs.mezo,
    schedule: "constant",
    warmupSteps: 0,
    learningRate: 1e39,
    maxSkippedSteps: 2,
  });
  const events = await runJob(start, on);
  assert.equal(eventsOf(events, "step").filter(({ skipped }) => skipped).length, 2);
  assert.equal(eventsOf(events, "paused")[0]!.reason!.code, "training_not_finite");
  const { checkpoint } = eventsOf(events, "checkpoint").at(-1)!;
  assert.equal(checkpoint.arrays["stepper.ledger.seeds"]!.length, checkpoint.step - 2);
});
