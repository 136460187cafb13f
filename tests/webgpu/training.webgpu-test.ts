// Training units on WebGPU: gradients of every family against PyTorch's autograd, and of quantized bases, with sparse
// changes and by whole matrices, against the CPU's kernel, which finite differences and PyTorch check.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { CotenantError } from "../../kernels/errors.ts";
import { adapterTargets } from "../../kernels/model-family.ts";
import type { LayerMoments } from "../../kernels/training/activation-pass.ts";
import { TrainingKernel, type TrainingKernelOptions } from "../../kernels/training/training-kernel.ts";
import { type PassModule, type TrainingUnit, updateUnit } from "../../kernels/training/training-pass.ts";
import { GpuAllocator, GpuMemoryError } from "../../kernels/webgpu/gpu-session.ts";
import { disposeHalves, offersHalves, uploadHalves } from "../../kernels/webgpu/half-matrices.ts";
import { trainingOn } from "../../kernels/webgpu/training-device.ts";
import { temporaryCache } from "../golden/golden-case.ts";
import { type GoldenGradients, goldenGradients } from "../golden-gradients/golden-gradients.ts";
import { openTrainingBase } from "../golden-gradients/training-base.ts";
import { relativeError, weightedLoss } from "../golden-gradients/weighted-loss.ts";

/** Relative, by norm, of each gradient tensor: what is asked for, and what float32 reaches here. */
const requiredTolerance = 1e-3;
const ownTolerance = 5e-5;
const lossTolerance = 1e-5;

const cacheDirectory = temporaryCache();
const checkpoints = join(import.meta.dirname, "..", "golden", "cases");

const bus = { bytes: 0, runMs: 0 };
const allocator = await GpuAllocator.open(bus);
after(() => allocator.close());
const offersFloat16 = await offersHalves(allocator, bus);
const onDevice = {
  threads: 1,
  openDevice: trainingOn({ allocator, bus, halves: new Map() }, (run) => run()),
};

/** By windows of so many tokens, so that some sequences are cut; every other shape compiles for seconds here. */
const families = {
  llama: 16,
  mistral: 128,
  gemma3: 16,
  "phi3-partial-rotary": 128,
  "qwen2-sliding": 16,
  qwen3: 128,
};

for (const [name, windowTokens] of Object.entries(families)) {
  test(name, async (t) => {
    const base = await openTrainingBase(join(checkpoints, name), cacheDirectory, "float32");
    const golden = goldenGradients(name, adapterTargets(base.config));
    const kernel = await TrainingKernel.open(base, { ...onDevice, windowTokens });
    const { loss, gradients } = await weightedLoss(kernel, golden, [golden]);
    await kernel.close();
    assert.ok(Math.abs(loss - golden.loss) <= lossTolerance * golden.loss, `loss ${loss}`);
    let worst = 0;
    for (const { name: tensor, expected, found } of golden.compare(gradients)) {
      const error = relativeError(found, expected);
      assert.ok(error <= requiredTolerance, `${tensor}: ${error}`);
      worst = Math.max(worst, error);
    }
    t.diagnostic(`largest relative error ${worst}`);
    assert.ok(worst <= ownTolerance, `${worst} is over our own tolerance`);
  });
}

for (const [name, encoding] of [
  ["qwen3", "int4"],
  ["phi3-partial-rotary", "int8"],
  ["llama", "float32"],
  ["llama", "float16"],
] as const) {
  const skip = encoding === "float16" && !offersFloat16 && "the device offers no float16";
  test(`${name} in ${encoding}, with sparse changes, as on the CPU`, { skip }, async (t) => {
    const base = await openTrainingBase(join(checkpoints, name), cacheDirectory, encoding);
    const golden = goldenGradients(name, adapterTargets(base.config));
    const results = [];
    const halves = await uploadHalves(base, allocator);
    const openDevice = trainingOn({ allocator, bus, halves }, (run) => run());
    for (const options of [{ threads: 1 }, { threads: 1, openDevice }]) {
      const kernel = await TrainingKernel.open(base, { ...options, windowTokens: 128, headSliceRows: 150 });
      const before = await gradientsOf(kernel, golden, { sparse: false });
      results.push(await gradientsOf(kernel, golden, { sparse: true }));
      assert.deepEqual(await gradientsOf(kernel, golden, { sparse: false }), before, "the base has changed");
      assert.notDeepEqual(results.at(-1)![0], before[0], "the changes changed nothing");
      await kernel.close();
    }
    disposeHalves(halves);
    const [expected, found] = results;
    const errors = found!.map((tensor, index) => relativeError(tensor, expected![index]!));
    t.diagnostic(`relative errors ${errors.join(", ")}`);
    assert.ok(Math.max(...errors) <= ownTolerance, `${errors}`);
  });
}

test("an adapter crosses once in a pass, however many windows it has", async () => {
  const base = await openTrainingBase(join(checkpoints, "llama"), cacheDirectory, "float32");
  const golden = goldenGradients("llama", adapterTargets(base.config));
  const kernel = await TrainingKernel.open(base, { ...onDevice, windowTokens: 16 });
  const bytesOf = async (modules: readonly PassModule[]) => {
    const before = bus.bytes;
    const pass = kernel.pass([{ tokenIds: golden.tokenIds, scored: [1] }], { modules, train: false });
    for (const unit of pass.forward()) await unit.run();
    return bus.bytes - before;
  };
  await bytesOf([]); // the base crosses as well
  const without = await bytesOf([]);
  const crossed = (await bytesOf(golden.parameters.modules)) - without;
  assert.ok(golden.tokenIds.length > 16);
  assert.ok(crossed > 0 && crossed <= golden.parameters.flat.byteLength, `${crossed}`);
  await kernel.close();
});

test("a kernel that closes while a unit is under way ends the unit and nothing else", async () => {
  const base = await openTrainingBase(join(checkpoints, "llama"), cacheDirectory, "float32");
  const { tokenIds } = goldenGradients("llama", adapterTargets(base.config));
  const sequence = { tokenIds, scored: [1] };
  const kernel = await TrainingKernel.open(base, { ...onDevice, windowTokens: 16 });
  const [unit] = kernel.pass([sequence], { modules: [], train: false }).forward();
  const ending = assert.rejects(unit!.run(), /closed while a unit/);
  await kernel.close();
  await ending;
  const next = await TrainingKernel.open(base, { ...onDevice, windowTokens: 16 });
  const pass = next.pass([sequence], { modules: [], train: false });
  for (const unit of pass.forward()) await unit.run();
  assert.ok(pass.logprobs()[0]! < 0);
  await next.close();
});

test("a unit that fails fails its job, but for a lost device, which ends the engine", async () => {
  const base = await openTrainingBase(join(checkpoints, "llama"), cacheDirectory, "float32");
  const sequence = { tokenIds: [5, 6], scored: [1] };
  const unitOn = async (error: Error) => {
    const openDevice = trainingOn({ allocator, bus, halves: new Map() }, () => Promise.reject(error));
    const kernel = await TrainingKernel.open(base, { threads: 1, openDevice });
    const [unit] = kernel.pass([sequence], { modules: [], train: false }).forward();
    return unit!.run();
  };
  await assert.rejects(unitOn(new Error("no such operator")), /no such operator/);
  await assert.rejects(unitOn(new GpuMemoryError(1000, null)), {
    code: "training_memory_exceeded",
    message: /no buffer of 1000 bytes; resume it once less is served/,
  });
  const lost = unitOn(new CotenantError("device_lost", "gone"));
  assert.equal(await Promise.race([lost, setTimeout(200, "pending")]), "pending");
});

test("what the matrices read, as on the CPU", async () => {
  const base = await openTrainingBase(join(checkpoints, "llama"), cacheDirectory, "float32");
  const { tokenIds } = goldenGradients("llama", adapterTargets(base.config));
  const moments = async (options: TrainingKernelOptions) => {
    const kernel = await TrainingKernel.open(base, options);
    const found: Float32Array[] = [];
    function* keep(_layer: number, { qkv, down }: LayerMoments): Generator<TrainingUnit, boolean, void> {
      yield updateUnit(() => found.push(qkv.products.slice(), Float32Array.from(down.sum)));
      return false;
    }
    for (const unit of kernel.activations([[{ tokenIds, scored: [] }]], 128).layers(keep)) await unit.run();
    await kernel.close();
    return found;
  };
  const expected = await moments({ threads: 1 });
  for (const [index, tensor] of (await moments(onDevice)).entries()) {
    const error = relativeError(tensor, expected[index]!);
    assert.ok(error <= ownTolerance, `tensor ${index}: ${error}`);
  }
});

/** Log-probabilities, and gradients of modules, of sparse places and of whole matrices. */
async function gradientsOf(
  kernel: TrainingKernel,
  { tokenIds, parameters }: GoldenGradients,
  { sparse: isChanged }: { readonly sparse: boolean },
): Promise<Float32Array[]> {
  const gradients = kernel.parameters(parameters.modules);
  const deltas = [
    {
      layer: 0,
      projection: "v" as const,
      indices: Uint32Array.of(0, 65, 130),
      values: Float32Array.of(1, -1, 0.5),
    },
    {
      layer: 1,
      projection: "down" as const,
      indices: Uint32Array.of(7, 300),
      values: Float32Array.of(0.7, 0.3),
    },
  ];
  const sparse = deltas.map((delta) => ({ ...delta, gradient: new Float32Array(delta.indices.length) }));
  const whole: Float32Array[] = [];
  const scored = tokenIds.map((_, at) => at).slice(1);
  const modules = [...parameters.modules, ...(isChanged ? deltas : [])];
  const pass = kernel.pass([{ tokenIds, scored }], { modules, train: true });
  for (const unit of pass.forward()) await unit.run();
  const logprobs = Float32Array.from(pass.logprobs());
  const wanted = {
    modules: gradients.modules,
    sparse,
    whole: {
      places: [{ layer: 1, projection: "k" as const }],
      receive: (_: unknown, gradient: Float32Array) => whole.push(gradient.slice()),
    },
  };
  for (const unit of pass.backward(
    scored.map(() => -1 / scored.length),
    wanted,
  ))
    await unit.run();
  return [logprobs, gradients.flat, ...sparse.map(({ gradient }) => gradient), ...whole];
}
