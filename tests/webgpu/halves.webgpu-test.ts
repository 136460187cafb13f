// A base in float16, where the device offers it: transformers' and PyTorch's results for a checkpoint in bfloat16, of
// which float16 loses next to nothing; rows in company; the check at the start; weights that are there once. Where it
// does not, as SwiftShader, the refusal.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { matrixBytes } from "../../kernels/base-memory.ts";
import type { DeviceOptions } from "../../kernels/device.ts";
import { openWebgpu } from "../../kernels/devices/webgpu.ts";
import { adapterTargets } from "../../kernels/model-family.ts";
import { TrainingKernel } from "../../kernels/training/training-kernel.ts";
import { GpuAllocator } from "../../kernels/webgpu/gpu-session.ts";
import { offersHalves } from "../../kernels/webgpu/half-matrices.ts";
import { trainingOn } from "../../kernels/webgpu/training-device.ts";
import { goldenCase, temporaryCache } from "../golden/golden-case.ts";
import { ParitySuite } from "../golden/parity-suite.ts";
import { goldenGradients } from "../golden-gradients/golden-gradients.ts";
import { relativeError, weightedLoss } from "../golden-gradients/weighted-loss.ts";
import { openWebgpuCheckpoint, openWebgpuGolden } from "./open-golden.ts";

const logprobTolerance = 2e-4; // as in float32
const gradientTolerance = 5e-5; // relative, by norm; as in float32

const bus = { bytes: 0, runMs: 0 };
const allocator = await GpuAllocator.open(bus);
after(() => allocator.close());
const offered = await offersHalves(allocator, bus);
const skip = offered ? false : "the device offers no float16";

const cacheDirectory = temporaryCache();

function optionsFor(modelDirectory: string): DeviceOptions {
  const model = { modelDirectory, cacheDirectory, encoding: "float16", threads: 1 } as const;
  const limits = { maxRows: 2, maxContext: 128, maxKvBytes: 0, prefixCacheBytes: 0 };
  return { model: { ...model, onProgress: () => undefined }, ...limits };
}

test("a device without it is refused before anything is read", {
  skip: offered && "the device offers float16",
}, async () => {
  await assert.rejects(openWebgpu(optionsFor("no such directory")), {
    code: "float16_not_available",
    message: /shader-f16.*--quantize int8/,
  });
});

test("gemma3 as transformers and PEFT compute it, alone and in company", { skip }, async () => {
  const golden = goldenCase("gemma3");
  const runner = await openWebgpuGolden(golden, { cacheDirectory, encoding: "float16" });
  const suite = new ParitySuite(runner, golden, {
    ownTolerance: logprobTolerance,
    chunkTokens: 16,
    greedyTokens: 12,
  });
  await suite.checkAlone(golden.runs.at(-1)!);
  await suite.checkBatch([2, 4, 6, 5, 7].map((run) => golden.runs[run]!));
  await runner.dispose();
});

test("gradients as PyTorch finds them, of the matrices that serve", { skip }, async (t) => {
  const { model, runner } = await openWebgpuCheckpoint(goldenCase("qwen3").directory, {
    cacheDirectory,
    encoding: "float16",
  });
  const { base } = model;
  const ofPrompt = async (sequence: string) => {
    runner.open(sequence, { adapterVersion: null, prefix: null });
    const tokenIds = goldenCase("qwen3").prompts[0]!;
    return (await runner.prefill({ sequence, tokenIds, promptLength: tokenIds.length, logits: "last" })).data;
  };
  const served = await ofPrompt("before");
  const golden = goldenGradients("qwen3", adapterTargets(base.config));
  const options = { windowTokens: 128, headSliceRows: 150 }; // slices begin within the head
  const openDevice = trainingOn(model, (run) => run());
  const kernel = await TrainingKernel.open(base, { threads: 1, openDevice, ...options });
  const crossing = async () => {
    const before = model.bus.bytes;
    const found = await weightedLoss(kernel, golden, [golden]);
    return { ...found, bytes: model.bus.bytes - before };
  };
  const { loss, gradients, bytes } = await crossing();
  const baseBytes = bytes - (await crossing()).bytes; // which crosses in the first pass
  await kernel.close();
  assert.ok(baseBytes < matrixBytes({ config: base.config, encoding: "float16" }) / 10, `${baseBytes}`);
  assert.ok(Math.abs(loss - golden.loss) <= 1e-5 * golden.loss, `loss ${loss}`);
  const errors = golden.compare(gradients).map(({ expected, found }) => relativeError(found, expected));
  t.diagnostic(`largest relative error ${Math.max(...errors)}`);
  assert.ok(Math.max(...errors) <= gradientTolerance, `${errors}`);
  assert.deepEqual(await ofPrompt("after"), served, "training has changed what serves");
  await model.session.offer(new Set(["scale"]));
  const grown = await ofPrompt("in another session");
  assert.ok(grown.every((logit, at) => Math.abs(logit - served[at]!) <= logprobTolerance));
  await runner.dispose();
});

test("passes the checks at the start and before the first job", { skip }, async () => {
  const device = await openWebgpu(optionsFor(goldenCase("llama").directory));
  const kernel = await device.training.openKernel();
  await kernel.close();
  await device.runner.dispose();
});
