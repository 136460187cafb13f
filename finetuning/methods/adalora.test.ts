// AdaLoRA's choice of ranks against PEFT's allocator, its gradients by differences, and what is left in the end.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import type { AdapterTargets } from "../../kernels/adapter.ts";
import { randomAt } from "../../kernels/sampling/random.ts";
import { LowRankParameters } from "../../kernels/training/low-rank-parameters.ts";
import { addOrthogonality } from "./adalora-orthogonality.ts";
import { highest, rankBudget } from "./adalora-ranks.ts";
import { AdaloraTrainable } from "./adalora-trainable.ts";
import type { Step } from "./method.ts";

const golden = JSON.parse(
  readFileSync(
    join(import.meta.dirname, "..", "..", "tests", "golden-gradients", "training", "adalora.json"),
    "utf8",
  ),
);
const width = { in: golden.in, out: golden.out };
const targets: AdapterTargets = {
  layers: golden.modules,
  shapes: { q: width, k: width, v: width, o: width, gate: width, up: width, down: width },
  hiddenSize: golden.in,
  vocabSize: 10,
  kvHeads: 1,
  headDim: 1,
};
const shapes = Array.from({ length: golden.modules }, (_, layer) => ({
  layer,
  projection: "q" as const,
  rank: golden.rank,
  scale: 0.5,
}));

function opened(): AdaloraTrainable {
  const { targetRank, firstStep, lastStep, interval } = golden;
  const trainable = new AdaloraTrainable({
    ...{ targets, shapes, seed: 3, orthogonality: 0 },
    ...{ targetRank, firstStep, lastStep, interval },
  });
  trainable.begin(new LowRankParameters(shapes, targets));
  return trainable;
}

function fillRandom(values: Float32Array, seed: number): void {
  for (let i = 0; i < values.length; i++) values[i] = randomAt(seed, i) - 0.5;
}

const layers = shapes.map(({ layer }) => layer);
const stepOf = (index: number): Step => ({ index, examples: [], learningRate: 0 });
const moduleSize = golden.rank * (1 + golden.in + golden.out);
const keptOf = ({ flat }: AdaloraTrainable) =>
  shapes.flatMap((_, module) =>
    [...flat.subarray(module * moduleSize, module * moduleSize + golden.rank)].map((value) =>
      Number(value !== 0),
    ),
  );

test("the ranks that PEFT's allocator keeps, step by step, also after a restart at any step", () => {
  let trainable = opened();
  for (const [index, { values, gradient, kept }] of golden.steps.entries()) {
    trainable.flat.set(values);
    for (const change of trainable.moved(stepOf(index), Float32Array.from(gradient), layers)) change();
    assert.deepEqual(keptOf(trainable), kept, `step ${index + 1}`);
    const again = opened();
    again.restore(structuredClone(trainable.state()));
    again.flat.set(trainable.flat);
    trainable = again;
  }
  const ranks = [...trainable.served()].map(({ rank }) => rank);
  assert.equal(
    ranks.reduce((sum, rank) => sum + rank, 0),
    golden.targetRank * golden.modules,
  );
  assert.ok(new Set(ranks).size > 1, "ranks differ");
});

test("ranks that the loss depends on survive, wherever they are", () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.nat(11), { minLength: 6, maxLength: 6 }),
      fc.nat(1000),
      (important, seed) => {
        const trainable = opened();
        let draw = 0;
        const random = () => randomAt(seed, draw++) + 0.5;
        for (let index = 0; index < golden.steps.length; index++) {
          const gradient = new Float32Array(trainable.flat.length);
          for (let rank = 0; rank < 12; rank++) {
            const module = Math.floor(rank / golden.rank) * moduleSize;
            const row = rank % golden.rank;
            const size = important.includes(rank) ? 1 : 0.01;
            trainable.flat[module + row] = random();
            gradient[module + row] = size * random();
          }
          for (const change of trainable.moved(stepOf(index), gradient, layers)) change();
        }
        const kept = keptOf(trainable).flatMap((is, rank) => (is === 1 ? [rank] : []));
        assert.deepEqual(
          kept,
          important.toSorted((one, other) => one - other),
        );
      },
    ),
    { numRuns: 30 },
  );
});

test("a layer's importance is of the steps that moved it, however long ago", () => {
  fc.assert(
    fc.property(
      fc.array(fc.subarray(layers), { minLength: 1, maxLength: 9 }),
      fc.nat(1000),
      (chosen, seed) => {
        const steps = chosen.map((moving, index) => ({ moving, index }));
        const averagesOf = (taken: typeof steps) => {
          const trainable = opened();
          for (const { moving, index } of taken) {
            fillRandom(trainable.flat, seed + index);
            const gradient = new Float32Array(trainable.flat.length);
            fillRandom(gradient, seed - index - 1);
            for (const { layer, from, to } of trainable.segments) {
              if (!moving.includes(layer)) gradient.fill(0, from, to); // as BackpropStepper has it
            }
            for (const change of trainable.moved(stepOf(0), gradient, moving)) change();
          }
          return trainable.state().arrays;
        };
        const mixed = averagesOf(steps);
        for (const { layer, from, to } of opened().segments) {
          const alone = averagesOf(steps.filter(({ moving }) => moving.includes(layer))); // without gaps
          for (const name of ["sensitivity", "uncertainty"]) {
            assert.deepEqual(mixed[name]!.subarray(from, to), alone[name]!.subarray(from, to));
          }
        }
      },
    ),
    { numRuns: 30 },
  );
});

test("layers that no step has moved keep what they came with, and the others have their share of the budget", () => {
  fc.assert(
    fc.property(fc.subarray(layers, { minLength: 1, maxLength: 2 }), fc.nat(1000), (drawn, seed) => {
      const trainable = opened();
      const start = new LowRankParameters(shapes, targets);
      fillRandom(start.flat, seed);
      trainable.begin(start);
      const before = trainable.modules().map(({ a, b }) => [a.slice(), b.slice()]);
      for (let index = 0; index < golden.steps.length; index++) {
        const gradient = new Float32Array(trainable.flat.length);
        for (const { layer, from, to } of trainable.segments) {
          if (!drawn.includes(layer)) continue;
          fillRandom(gradient.subarray(from, to), seed + index);
          for (let i = from; i < to; i++) trainable.flat[i]! -= 0.01 * gradient[i]!;
        }
        for (const change of trainable.moved(stepOf(index), gradient, drawn)) change();
      }
      const modules = trainable.modules();
      for (const layer of layers.filter((other) => !drawn.includes(other)))
        assert.deepEqual([modules[layer]!.a, modules[layer]!.b], before[layer]);
      const ranks = [...trainable.served()].filter(({ layer }) => drawn.includes(layer));
      assert.equal(
        ranks.reduce((sum, { rank }) => sum + rank, 0),
        golden.targetRank * drawn.length,
      );
    }),
    { numRuns: 30 },
  );
});

test("the product starts as the start's, and the adapter is what passes see", () => {
  for (const isZero of [true, false]) {
    const start = new LowRankParameters(shapes, targets);
    fillRandom(start.flat, 8);
    if (isZero) for (const { b } of start.modules) b.fill(0);
    const trainable = opened();
    trainable.begin(start);
    for (const [index, { a, b }] of trainable.modules().entries()) {
      for (let i = 0; i < golden.in * golden.out; i++) {
        const product = (module: { readonly a: Float32Array; readonly b: Float32Array }) =>
          Array.from({ length: golden.rank }, (_, row) => {
            return (
              module.a[row * golden.in + (i % golden.in)]! *
              module.b[row * golden.out + Math.floor(i / golden.in)]!
            );
          }).reduce((sum, value) => sum + value, 0);
        assert.ok(Math.abs(product({ a, b }) - product(start.modules[index]!)) < 1e-6);
      }
    }
    fillRandom(trainable.flat, 9);
    const seen = trainable.modules();
    for (const [index, { a, b, rank }] of [...trainable.served()].entries()) {
      assert.equal(rank, golden.rank);
      assert.deepEqual(a, seen[index]!.a);
      assert.deepEqual(
        b,
        seen[index]!.b.map((value) => value * 0.5),
      );
    }
  }
});

test("gradients of values and both matrices, by differences", () => {
  const trainable = opened();
  fillRandom(trainable.flat, 4);
  const slopes = new LowRankParameters(shapes, targets);
  fillRandom(slopes.flat, 5);
  const loss = (values: Float32Array) => {
    let sum = 0;
    for (const [index, { a, b }] of trainable.modules(values).entries()) {
      const by = slopes.modules[index]!;
      for (const [i, value] of a.entries()) sum += value * by.a[i]!;
      for (const [i, value] of b.entries()) sum += value * by.b[i]!;
    }
    return sum;
  };
  const gradient = new Float32Array(trainable.flat.length);
  for (const { layer } of trainable.segments) trainable.addGradient(layer, slopes, gradient);
  for (const [i, expected] of gradient.entries()) {
    const moved = [0.01, -0.01].map((by) =>
      loss(trainable.flat.map((value, at) => (at === i ? value + by : value))),
    );
    assert.ok(Math.abs((moved[0]! - moved[1]!) / 0.02 - expected) < 1e-4, `${i}`);
  }
});

test("the penalty's gradient is PyTorch's", () => {
  const { matrix, gradient } = golden.orthogonality;
  const sum = new Float32Array(matrix.length);
  addOrthogonality(Float32Array.from(matrix), sum, { rows: golden.rank, weight: 1 });
  for (const [i, value] of sum.entries()) assert.ok(Math.abs(value - gradient[i]) < 1e-5, `${i}`);
});

test("the budget falls and ends at the target exactly", () => {
  fc.assert(
    fc.property(
      fc.record({ target: fc.integer({ min: 1, max: 50 }), more: fc.integer({ min: 1, max: 50 }) }),
      fc.nat(20),
      fc.integer({ min: 1, max: 50 }),
      ({ target, more }, firstStep, length) => {
        const schedule = {
          initial: target + more,
          target,
          firstStep,
          lastStep: firstStep + length,
          interval: 1,
        };
        const budgets = Array.from({ length: firstStep + length + 3 }, (_, done) =>
          rankBudget(done, schedule),
        );
        assert.equal(budgets[0], target + more);
        assert.equal(budgets.at(-1), target);
        assert.ok(budgets.every((budget, i) => i === 0 || budget <= budgets[i - 1]!));
        assert.equal(
          highest(budgets, 3).reduce((sum, kept) => sum + kept, 0),
          Math.min(3, budgets.length),
        );
      },
    ),
  );
});

test("a target that is no reduction is refused", () => {
  const options = { targets, shapes, seed: 1, orthogonality: 0, firstStep: 0, lastStep: 5, interval: 1 };
  assert.throws(() => new AdaloraTrainable({ ...options, targetRank: golden.rank }), {
    code: "training_settings_invalid",
    message: /adalora_target_rank.*average rank of 4/,
  });
});
