import assert from "node:assert/strict";
import { test } from "node:test";
import { LatencyModel } from "./latency-model.ts";

/** A small linear congruential generator: uniform in [0, 1), the same in every run. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const truth = (coefficients: readonly number[], features: readonly number[]) =>
  features.reduce((sum, value, index) => sum + value * coefficients[index]!, 0);

type Run = { readonly coefficients: readonly number[]; readonly noise: (random: () => number) => number };

function observe(model: LatencyModel, random: () => number, runs: number, { coefficients, noise }: Run) {
  for (let run = 0; run < runs; run++) {
    const features = [1, 1 + Math.floor(random() * 16), random() * 8, random() * 20];
    model.observe(features, truth(coefficients, features) * noise(random));
  }
}

const coefficients = [3, 1.5, 0.8, 0.2];
const probes = [
  [1, 1, 0, 0],
  [1, 16, 8, 20],
  [1, 4, 2, 5],
];

function assertClose(model: LatencyModel, expected: readonly number[], tolerance: number): void {
  for (const probe of probes) {
    const ratio = model.predict(probe)! / truth(expected, probe);
    assert.ok(Math.abs(ratio - 1) < tolerance, `${probe}: off by the factor ${ratio}`);
  }
}

test("no prediction and no error before there were enough runs", () => {
  const model = new LatencyModel(4);
  assert.equal(model.predict(probes[0]!), null);
  observe(model, randomOf(1), 11, { coefficients, noise: () => 1 });
  assert.equal(model.predict(probes[0]!), null);
  assert.equal(model.error, null);
  observe(model, randomOf(2), 1, { coefficients, noise: () => 1 });
  assert.notEqual(model.predict(probes[0]!), null);
});

test("noiseless runs are learnt to well under a percent", () => {
  const model = new LatencyModel(4);
  observe(model, randomOf(1), 300, { coefficients, noise: () => 1 });
  assertClose(model, coefficients, 0.005);
  assert.ok(model.error! < 0.01, `error ${model.error}`);
});

test("one run in ten that takes five times as long moves the predictions little; the error stays a median", () => {
  const model = new LatencyModel(4);
  const noise = (random: () => number) => (random() < 0.1 ? 5 : 0.95 + 0.1 * random());
  observe(model, randomOf(3), 600, { coefficients, noise });
  assertClose(model, coefficients, 0.12);
  assert.ok(model.error! < 0.1, `error ${model.error}`);
});

test("a machine that becomes three times slower is followed", () => {
  const model = new LatencyModel(4);
  const random = randomOf(4);
  const noise = (draw: () => number) => 0.95 + 0.1 * draw();
  observe(model, random, 400, { coefficients, noise });
  const slower = coefficients.map((value) => value * 3);
  observe(model, random, 600, { coefficients: slower, noise });
  assertClose(model, slower, 0.2);
});

test("more work is never predicted to take less time, whatever the noise", () => {
  for (let seed = 0; seed < 20; seed++) {
    const model = new LatencyModel(4);
    const random = randomOf(seed);
    observe(model, random, 40, { coefficients: [5, 0, 0.1, 0], noise: (draw) => 0.5 + draw() });
    for (let probe = 0; probe < 20; probe++) {
      const less = [1, random() * 16, random() * 8, random() * 20];
      const more = less.map((value, index) => (index === 0 ? value : value * (1 + random())));
      const [shorter, longer] = [model.predict(less)!, model.predict(more)!];
      assert.ok(shorter >= 0 && longer >= shorter, `${shorter} then ${longer}`);
    }
  }
});

test("features that never varied, and clocks that did not tick, do no harm", () => {
  const model = new LatencyModel(4);
  for (let run = 0; run < 50; run++) model.observe([1, 4, 0, 0], 10);
  for (const ms of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) model.observe([1, 4, 0, 0], ms);
  assert.ok(Math.abs(model.predict([1, 4, 0, 0])! - 10) < 0.01);
  assert.ok(Number.isFinite(model.predict([1, 8, 5, 3])!));
});
