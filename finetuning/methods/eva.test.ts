// EVA's components against exact singular value decompositions of the same inputs in PyTorch, and where ranks go; jobs
// that start so, or spread ranks by AdaLoRA, and stop at any unit.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { modulesOf, projections } from "../../kernels/adapter.ts";
import { randomAt } from "../../kernels/sampling/random.ts";
import { type LowRankParameters, onEveryProjection } from "../../kernels/training/low-rank-parameters.ts";
import {
  eventsOf,
  examplesOf,
  openSmallKernel,
  runJob,
  smallSpec,
  smallStart,
} from "../../tests/training-job-fixture.ts";
import { ExamplePasses } from "../example-passes.ts";
import { kernelPasses } from "../forward-passes.ts";
import type { Settings } from "../settings.ts";
import { eva } from "./eva.ts";
import { redistributed } from "./eva-ranks.ts";
import { symmetricEigen } from "./eva-symmetric-eigen.ts";

const tests = join(import.meta.dirname, "..", "..", "tests");
const golden: {
  sequences: number[][];
  modules: Record<string, { components: number[][]; explained: number[] }>;
} = JSON.parse(readFileSync(join(tests, "golden-gradients", "training", "eva.json"), "utf8"));
const on = await openSmallKernel();
const { kernel, targets } = on;
after(() => kernel.close());
const readBy = { q: "qkv", k: "qkv", v: "qkv", o: "o", gate: "gate", up: "gate", down: "down" } as const;
const rank = 3;
const shapes = onEveryProjection(targets.layers, { rank, scale: 2 });

/** Runs the initialiser; batches of two sequences, in windows that end inside them. */
async function initialised(
  settings: Settings,
  given = shapes,
): Promise<{ parameters: LowRankParameters; captured: number }> {
  const spec = {
    ...smallSpec,
    method: { name: "lora" as const, settings: { initializer: "eva", ...settings } },
    batchSize: 2,
    windowTokens: 16,
  };
  const examples = examplesOf(
    golden.sequences.map((tokens) => ({ tokens, weights: tokens.map((_, at) => (at > 0 ? 1 : 0)) })),
  );
  const passes = new ExamplePasses({
    kernel,
    forward: kernelPasses(kernel, spec),
    spec,
    examples,
  });
  const units = eva.start({ kernel, targets, spec, steps: 1, passes, from: null }, given);
  let captured = 0;
  for (let next = units.next(); ; next = units.next()) {
    if (next.done === true) return { parameters: next.value, captured };
    if (next.value.kind === "update") captured++;
    await next.value.run();
  }
}

test("A's rows are the inputs' principal directions, and B is zero", async () => {
  const { parameters } = await initialised({ eva_tau: 1 });
  for (const { layer, projection, a, b, rank: own, scale } of parameters.modules) {
    const { components } = golden.modules[`${layer}.${readBy[projection]}`]!;
    const width = components[0]!.length;
    assert.equal(own, rank);
    assert.equal(scale, 2);
    for (let row = 0; row < own; row++) {
      const cosine = components[row]!.reduce((sum, value, i) => sum + value * a[row * width + i]!, 0);
      assert.ok(Math.abs(cosine) > 0.999, `${layer} ${projection} ${row}: ${cosine}`);
      const square = a
        .subarray(row * width, (row + 1) * width)
        .reduce((sum, value) => sum + value * value, 0);
      assert.ok(Math.abs(square - 1) < 1e-5);
    }
    assert.ok(b.every((value) => value === 0));
  }
});

test("the same start gives the same bits", async () => {
  const [one, other] = [await initialised({}), await initialised({})];
  assert.deepEqual(one.parameters.flat, other.parameters.flat);
});

test("a layer whose directions have settled is not measured further", async () => {
  const [all, few] = [await initialised({ eva_tau: 1 }), await initialised({ eva_tau: 0 })];
  assert.ok(few.captured < all.captured, `${few.captured} of ${all.captured}`);
});

test("with rho, ranks follow the explained variance within the same sum", async () => {
  const { parameters } = await initialised({ eva_tau: 1, eva_rho: 2 });
  const candidates = shapes.flatMap(({ layer, projection }) =>
    golden.modules[`${layer}.${readBy[projection]}`]!.explained.map((share) => ({
      place: `${layer}.${projection}`,
      share,
    })),
  );
  const chosen = candidates.sort((one, other) => other.share - one.share).slice(0, rank * shapes.length);
  const ranks = parameters.modules.map(({ layer, projection, rank: own }) => [`${layer}.${projection}`, own]);
  const expected = shapes
    .map(({ layer, projection }) => `${layer}.${projection}`)
    .map((place) => [place, chosen.filter((candidate) => candidate.place === place).length])
    .filter(([, count]) => count !== 0);
  assert.deepEqual(ranks, expected);
  assert.ok(new Set(ranks.map(([, own]) => own)).size > 1, "the golden case moves some ranks");
});

test("a module gets at most rho times its own rank, whatever those get that read the same", async () => {
  const ranks = { q: 1, k: 1, v: 12 };
  const given = shapes.map((shape) => ({ ...shape, rank: ranks[shape.projection as "q"] ?? 2 }));
  const rho = 2;
  const { parameters } = await initialised({ eva_rho: rho }, given);
  for (const { layer, projection, rank: own } of parameters.modules) {
    const asked = given.find((shape) => shape.layer === layer && shape.projection === projection)!.rank;
    assert.ok(own <= rho * asked, `${layer} ${projection}: ${own} of ${asked}`);
  }
  const { values } = eva.size({ initializer: "eva", eva_rho: rho }, { shapes: given, targets });
  assert.ok(parameters.flat.length <= values, `${parameters.flat.length} numbers, said ${values}`);
});

test("a module without chosen components is left out, and the sum of ranks stays", () => {
  const two = shapes.slice(0, 2);
  const shares = [
    [0.5, 0.2, 0.1, 0.05, 0.05, 0.04],
    [0.01, 0.01, 0.01, 0.01, 0.01, 0.01],
  ];
  const chosen = redistributed(two, (shape) => shares[two.indexOf(shape as (typeof two)[number])]!);
  assert.deepEqual(chosen, [{ ...two[0]!, rank: 6 }]);
});

test("eigenvectors of a random symmetric matrix", () => {
  const size = 24;
  const matrix = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      matrix[i * size + j] = randomAt(9, i * size + j) - 0.5;
      matrix[j * size + i] = matrix[i * size + j]!;
    }
  }
  const { values, vectors } = symmetricEigen(matrix.slice());
  for (let v = 0; v < size; v++) {
    if (v > 0) assert.ok(values[v]! <= values[v - 1]!);
    for (let i = 0; i < size; i++) {
      let product = 0;
      for (let j = 0; j < size; j++) product += matrix[i * size + j]! * vectors[v * size + j]!;
      assert.ok(Math.abs(product - values[v]! * vectors[v * size + i]!) < 1e-12);
    }
  }
});

for (const settings of [
  { initializer: "eva", eva_rho: 2, rank: 2 },
  { rank_allocation: "adalora", adalora_target_rank: 2, adalora_interval: 1, rank: 4 },
  { initializer: "eva", eva_rho: 2, rank_allocation: "adalora", adalora_target_rank: 2, rank: 4 },
]) {
  test(`${JSON.stringify(settings)}: resumed is uninterrupted, wherever it was paused`, async () => {
    const spec = { method: { name: "lora", settings }, epochs: 4, checkpointSteps: 1 } as const;
    let total = 0;
    const count = () => {
      total++;
      return false;
    };
    const whole = eventsOf(await runJob(smallStart(spec), on, count), "checkpoint").at(-1)!;
    for (const share of [0.001, 0.5, 0.9]) {
      let units = 0;
      const pauseAt = Math.ceil(total * share);
      const paused = await runJob(smallStart(spec), on, () => units++ === pauseAt);
      const { checkpoint } = eventsOf(paused, "checkpoint").at(-1)!;
      const resumed = eventsOf(await runJob(smallStart(spec, { checkpoint }), on), "checkpoint").at(-1)!;
      assert.deepEqual(resumed.checkpoint, whole.checkpoint);
      assert.deepEqual(resumed.adapter, whole.adapter);
    }
    const ranks = modulesOf(whole.adapter, "low-rank").map(({ rank: own }) => own);
    if ("rank_allocation" in settings) {
      const sum = ranks.reduce((all, own) => all + own, 0);
      const asked = 2 * projections.length * targets.layers;
      assert.ok("eva_rho" in settings ? sum <= asked : sum === asked, `${sum} of ${asked}`);
    }
  });
}
