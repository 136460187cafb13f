// Sparse changes of the base's matrices, and gradients by those matrices, against PyTorch's autograd; that backward
// stops where nothing below is wanted; and that the shared weights are the base's own again after every unit.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { projections as allProjections, type Projection } from "../../kernels/adapter.ts";
import { openSafetensors } from "../../kernels/checkpoint/safetensors.ts";
import { adapterTargets } from "../../kernels/model-family.ts";
import type { SparseDelta, WeightPlace } from "../../kernels/training/sparse-weights.ts";
import { TrainingKernel, type TrainingKernelOptions } from "../../kernels/training/training-kernel.ts";
import type { PassGradients, PassModule } from "../../kernels/training/training-pass.ts";
import { temporaryCache } from "../golden/golden-case.ts";
import { contents, type GoldenGradients, goldenGradients } from "./golden-gradients.ts";
import { openTrainingBase } from "./training-base.ts";

const requiredTolerance = 1e-3;
const ownTolerance = 5e-5;
const lossTolerance = 1e-5;

const cacheDirectory = temporaryCache();
const checkpoints = join(import.meta.dirname, "..", "golden", "cases");
const weightsDirectory = join(import.meta.dirname, "weights");
const settings: readonly Partial<TrainingKernelOptions>[] = [
  {},
  { windowTokens: 5 },
  { windowTokens: 16, keptBytes: 1e9, widenedBytes: 1e9 },
  { windowTokens: 7, widenedBytes: 60_000 },
];

for (const name of readdirSync(weightsDirectory).map((file) => basename(file, ".safetensors"))) {
  test(name, async (t) => {
    const base = await openTrainingBase(join(checkpoints, name), cacheDirectory, "float32");
    const targets = adapterTargets(base.config);
    const golden = goldenGradients(name, targets);
    const weights = weightGradients(name, (place) => targets.shapes[place.projection]);
    const modules = [...golden.parameters.modules, ...weights.map(({ delta }) => delta)];
    let worst = 0;
    for (const options of settings) {
      const kernel = await TrainingKernel.open(base, { threads: 1, ...options });
      const before = await run(kernel, golden, { modules: [], gradients: null });
      const ofDeltas = weights.map(({ delta }) => ({
        ...delta,
        gradient: new Float32Array(delta.indices.length),
      }));
      const whole = new Map<WeightPlace, Float32Array>();
      const ofModules = kernel.parameters(golden.parameters.modules);
      const gradients: PassGradients = {
        modules: ofModules.modules,
        sparse: ofDeltas,
        whole: {
          places: weights.map(({ delta }) => delta),
          receive: (place, gradient) => whole.set(place, gradient.slice()),
        },
      };
      const loss = await run(kernel, golden, { modules, gradients });
      const expectedLoss = weights[0]!.loss;
      assert.ok(Math.abs(loss - expectedLoss) <= lossTolerance * expectedLoss, `loss ${loss}`);
      for (const [index, { delta, expected, name: tensor }] of weights.entries()) {
        const error = relativeError(whole.get(delta)!, expected);
        assert.ok(error <= requiredTolerance, `${tensor}: ${error}`);
        const there = Float32Array.from(delta.indices, (at) => expected[at]!);
        const sparseError = relativeError(ofDeltas[index]!.gradient, there);
        assert.ok(sparseError <= requiredTolerance, `${tensor}, sparse: ${sparseError}`);
        worst = Math.max(worst, error, sparseError);
      }
      assert.equal(
        await run(kernel, golden, { modules: [], gradients: null }),
        before,
        "the base has changed",
      );
      await kernel.close();
    }
    t.diagnostic(`largest relative error ${worst}`);
    assert.ok(worst <= ownTolerance, `${worst} is over our own tolerance`);
  });
}

test("backward runs halves of layers from the lowest wanted one, and none where nothing is wanted", async () => {
  const name = "gemma3";
  const base = await openTrainingBase(join(checkpoints, name), cacheDirectory, "float32");
  const targets = adapterTargets(base.config);
  const golden = goldenGradients(name, targets);
  const kernel = await TrainingKernel.open(base, { threads: 1, windowTokens: 8 });
  const { modules } = golden.parameters;
  const gradientsFrom = async (first: number, projections: readonly Projection[] = allProjections) => {
    const isWanted = ({ layer, projection }: WeightPlace) =>
      layer > first || (layer === first && projections.includes(projection));
    const ofModules = kernel.parameters(modules.filter(isWanted));
    const units = { backward: 0 };
    await run(kernel, golden, { modules, gradients: ofModules, units });
    return { ofModules, units: units.backward };
  };
  const windowsOf = (tokens: number) => Math.ceil(tokens / 8);
  const windows = windowsOf(golden.tokenIds.length);
  const lastWindows = windowsOf(golden.weights.filter((weight) => weight > 0).length); // of scored tokens alone
  assert.ok(lastWindows < windows);
  const all = await gradientsFrom(0);
  assert.equal(all.units, windows * (2 * targets.layers - 1) + lastWindows);
  const top = await gradientsFrom(targets.layers - 1);
  assert.equal(top.units, windows + lastWindows);
  const topMlp = await gradientsFrom(targets.layers - 1, ["gate", "up", "down"]);
  assert.equal(topMlp.units, lastWindows);
  for (const { ofModules } of [top, topMlp]) {
    assert.ok(ofModules.flat.length > 0);
    assert.deepEqual(ofModules.flat, all.ofModules.flat.subarray(-ofModules.flat.length));
  }
  assert.equal((await gradientsFrom(targets.layers)).units, 0);
  await kernel.close();
});

test("gradients by matrices that nothing has changed yet, from the layer that is named", async () => {
  const name = "qwen3";
  const base = await openTrainingBase(join(checkpoints, name), cacheDirectory, "float32");
  const golden = goldenGradients(name, adapterTargets(base.config));
  const kernel = await TrainingKernel.open(base, { threads: 1 });
  const place = { layer: 0, projection: "q" } as const;
  const gradientWith = async (modules: readonly PassModule[], firstTrainedLayer?: number) => {
    let gradient = new Float32Array(0);
    const whole = {
      places: [place],
      receive: (_: WeightPlace, all: Float32Array) => (gradient = all.slice()),
    };
    const first = firstTrainedLayer === undefined ? {} : { firstTrainedLayer };
    await run(kernel, golden, { modules, gradients: { modules: [], whole }, ...first });
    return gradient;
  };
  const nothing = { ...place, indices: Uint32Array.of(0), values: Float32Array.of(0) };
  const expected = await gradientWith([nothing]);
  assert.ok(expected.some((value) => value !== 0));
  assert.deepEqual(await gradientWith([], 0), expected);
  assert.equal((await gradientWith([])).length, 0, "nothing is trained");
  await kernel.close();
});

test("interleaved passes of different sparse changes do not see each other", async () => {
  const name = "phi3-partial-rotary";
  const base = await openTrainingBase(join(checkpoints, name), cacheDirectory, "float32");
  const targets = adapterTargets(base.config);
  const golden = goldenGradients(name, targets);
  const deltas = weightGradients(name, (place) => targets.shapes[place.projection]).map(({ delta }) => delta);
  const opposite = deltas.map((delta) => ({ ...delta, values: delta.values.map((value) => -value) }));
  for (const widenedBytes of [0, 1e9]) {
    const kernel = await TrainingKernel.open(base, { threads: 1, windowTokens: 8, widenedBytes });
    const open = (modules: readonly PassModule[]) => {
      const sparse = deltas.map((delta) => ({ ...delta, gradient: new Float32Array(delta.indices.length) }));
      return { units: unitsOf(kernel, golden, { modules, gradients: { modules: [], sparse } }), sparse };
    };
    const alone = [];
    for (const modules of [deltas, opposite]) {
      const job = open(modules);
      for (const unit of job.units) await unit.run();
      alone.push(job.sparse.map(({ gradient }) => gradient));
    }
    const jobs = [open(deltas), open(opposite)];
    for (let running = true; running; ) {
      running = false;
      for (const { units } of jobs) {
        const next = units.next();
        if (next.done === true) continue;
        running = true;
        await next.value.run();
      }
    }
    assert.deepEqual(
      jobs.map(({ sparse }) => sparse.map(({ gradient }) => gradient)),
      alone,
    );
    assert.notDeepEqual(alone[0], alone[1]);
    await kernel.close();
  }
});

type RunOptions = {
  readonly modules: readonly PassModule[];
  readonly gradients: PassGradients | null;
  readonly units?: { backward: number };
  readonly firstTrainedLayer?: number;
};

/** @returns the loss */
async function run(kernel: TrainingKernel, golden: GoldenGradients, options: RunOptions): Promise<number> {
  const units = unitsOf(kernel, golden, options);
  for (;;) {
    const next = units.next();
    if (next.done === true) return next.value;
    if (next.value.kind === "backward" && options.units !== undefined) options.units.backward++;
    await next.value.run();
  }
}

function* unitsOf(
  kernel: TrainingKernel,
  golden: GoldenGradients,
  { modules, gradients, firstTrainedLayer }: RunOptions,
) {
  const { tokenIds } = golden;
  const scored = golden.weights.flatMap((weight, at) => (weight > 0 ? [at] : []));
  const weights = scored.map((at) => golden.weights[at]!);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const first = firstTrainedLayer === undefined ? {} : { firstTrainedLayer };
  const pass = kernel.pass([{ tokenIds, scored }], { modules, train: gradients !== null, ...first });
  yield* pass.forward();
  const loss = pass.logprobs().reduce((sum, logprob, at) => sum - (logprob * weights[at]!) / total, 0);
  if (gradients !== null) {
    yield* pass.backward(
      weights.map((weight) => -weight / total),
      gradients,
    );
  }
  return loss;
}

type WeightGolden = {
  readonly name: string;
  readonly delta: SparseDelta;
  readonly expected: Float32Array; // [out, in]
  readonly loss: number;
};

/** Of each projection, where PyTorch has one matrix for several. */
function weightGradients(
  name: string,
  shapeOf: (place: WeightPlace) => { readonly in: number; readonly out: number },
): WeightGolden[] {
  const file = openSafetensors(join(weightsDirectory, `${name}.safetensors`));
  const loss = Number(file.metadata.loss);
  const golden = [...file.tensors.keys()]
    .filter((tensor) => tensor.startsWith("gradient/"))
    .flatMap((tensor) => {
      const module = tensor.slice("gradient/".length);
      const layer = Number(module.split(".")[2]);
      const indices = new Uint32Array(file.readRaw(`indices/${module}`).slice().buffer);
      const values = file.readFloat32(`values/${module}`);
      const gradient = file.readFloat32(tensor);
      let from = 0;
      return contents[module.split(".").at(-1)!]!.map((projection) => {
        const { in: columns, out } = shapeOf({ layer, projection });
        const first = from;
        from += columns * out;
        const own = [...indices.keys()].filter(
          (at) => indices[at]! >= first && indices[at]! < first + columns * out,
        );
        const delta = {
          layer,
          projection,
          indices: Uint32Array.from(own, (at) => indices[at]! - first),
          values: Float32Array.from(own, (at) => values[at]!),
        };
        return { name: `${module} ${projection}`, delta, expected: gradient.slice(first, from), loss };
      });
    });
  file.close();
  return golden;
}

function relativeError(found: Float32Array, expected: Float32Array): number {
  assert.equal(found.length, expected.length);
  const norm = (values: Float32Array) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return norm(found.map((value, i) => value - expected[i]!)) / norm(expected);
}
