// Optimizers, schedules and clipping against torch and transformers (tests/golden-gradients/make-optimizers.py), and
// what a checkpoint relies on for every member of the registry.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { randomAt } from "../../kernels/sampling/random.ts";
import { clipGradients, gradientNorm } from "../gradient-norm.ts";
import { schedules } from "../schedules/index.ts";
import { rateFactor } from "../schedules/schedule.ts";
import { optimizers } from "./index.ts";
import type { OptimizerKind } from "./optimizer.ts";

type Goldens = {
  readonly learningRate: number;
  readonly start: readonly number[];
  readonly gradients: readonly (readonly number[])[];
  readonly optimizers: Record<string, { settings: Record<string, number>; end: readonly number[] }>;
  readonly clipping: { maxNorm: number; norm: number; clipped: readonly number[] };
  readonly schedules: { warmup: number; total: number } & Record<string, readonly number[]>;
};

const goldens: Goldens = JSON.parse(
  readFileSync(new URL("../../tests/golden-gradients/training/optimizers.json", import.meta.url), "utf8"),
);

const registry: [string, OptimizerKind][] = Object.entries(optimizers);

/**
 * How far each may be from torch in any parameter; the parameters travel by up to 0.4. Eight bits have it hardest
 * here: gradients of one block differ by five powers of ten.
 */
const tolerances: Record<string, number> = { adamw: 2e-6, "adamw-8bit": 0.06, lion: 2e-6, sgd: 2e-5 };

for (const [name, kind] of registry) {
  test(`${name} goes where torch goes`, () => {
    const golden = goldens.optimizers[name.replace("-8bit", "")]!;
    const parameters = Float32Array.from(goldens.start);
    const optimizer = kind.create(parameters.length, { ...kind.defaults, ...golden.settings });
    for (const gradients of goldens.gradients) {
      optimizer.step(parameters, Float32Array.from(gradients), goldens.learningRate);
    }
    const errors = golden.end.map((end, i) => Math.abs(parameters[i]! - end) / Math.max(1, Math.abs(end)));
    assert.ok(Math.max(...errors) <= tolerances[name]!, `${Math.max(...errors)}`);
  });

  test(`${name} goes on from its state bit for bit`, () => {
    const size = 700; // more than two blocks of moments
    const gradientsAt = (step: number) =>
      Float32Array.from({ length: size }, (_, i) => randomAt(step, i) - 0.5);
    const whole = Float32Array.from({ length: size }, (_, i) => randomAt(99, i));
    const optimizer = kind.create(size, kind.defaults);
    for (let step = 0; step < 5; step++) optimizer.step(whole, gradientsAt(step), 0.01);
    const resumed = whole.slice();
    const copy = structuredClone(optimizer.state());
    for (let step = 5; step < 9; step++) optimizer.step(whole, gradientsAt(step), 0.01);
    const second = kind.create(size, kind.defaults);
    second.restore(copy);
    for (let step = 5; step < 9; step++) second.step(resumed, gradientsAt(step), 0.01);
    assert.deepEqual(resumed, whole);
    assert.throws(() => kind.create(size + 1, kind.defaults).restore(copy), RangeError);
  });

  test(`${name} finds a minimum`, () => {
    const target = Float32Array.from({ length: 600 }, (_, i) => randomAt(5, i) * 2 - 1);
    const parameters = new Float32Array(target.length);
    const optimizer = kind.create(target.length, kind.defaults);
    const distance = () => Math.hypot(...parameters.map((value, i) => value - target[i]!));
    const before = distance();
    for (let step = 0; step < 200; step++) {
      const gradients = parameters.map((value, i) => value - target[i]!);
      optimizer.step(parameters, gradients, 0.05 * (1 - step / 200));
    }
    assert.ok(distance() < 0.03 * before, `${distance()} of ${before}`);
  });

  test(`${name} says what its state weighs`, () => {
    const size = 2560;
    const { arrays } = kind.create(size, kind.defaults).state();
    const bytes = Object.values(arrays).reduce((sum, { byteLength }) => sum + byteLength, 0);
    assert.equal(bytes, size * kind.stateBytesPerParameter);
  });
}

for (const [name, schedule] of Object.entries(schedules)) {
  test(`schedule ${name} is transformers'`, () => {
    // Behind the last step transformers' cosine rises again; ours stays where it is.
    for (const [step, rate] of goldens.schedules[name]!.slice(0, goldens.schedules.total + 1).entries()) {
      assert.ok(Math.abs(rateFactor(schedule, step, goldens.schedules) - rate) < 1e-8, `step ${step}`);
    }
  });
}

test("clipping is torch's", () => {
  const { maxNorm, norm, clipped } = goldens.clipping;
  const gradients = Float32Array.from(goldens.gradients[0]!);
  assert.ok(Math.abs(gradientNorm(gradients) - norm) < 1e-5 * norm);
  clipGradients(gradients, gradientNorm(gradients), maxNorm);
  for (const [i, value] of clipped.entries()) assert.ok(Math.abs(gradients[i]! - value) < 1e-6);
  const small = gradients.slice();
  clipGradients(small, gradientNorm(small), 10);
  assert.deepEqual(small, gradients);
});
