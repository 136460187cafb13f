// The check that a device goes through before it serves: passed by what computes right, in float32 and int4, and not by
// a driver that leaves computations out, or loses its device meanwhile; what `auto` makes of that.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { DeviceOptions, OpenedDevice } from "../../kernels/device.ts";
import { openAuto } from "../../kernels/devices/auto.ts";
import { openCpu } from "../../kernels/devices/cpu.ts";
import { findGpu } from "../../kernels/devices/find-gpu.ts";
import { openGpu, openWebgpu } from "../../kernels/devices/webgpu.ts";
import type { CotenantError } from "../../kernels/errors.ts";
import type { MatrixEncoding } from "../../kernels/prepare/layout.ts";
import { goldenCase, temporaryCache } from "../golden/golden-case.ts";
import { makeFailingDriver } from "./failing-driver/failing-driver.ts";

const made = makeFailingDriver();
const skip = "reason" in made ? made.reason : false;
const driver = "reason" in made ? null : made;
after(() => driver?.remove());
Object.assign(process.env, driver?.environment); // before anything opens a device

const cacheDirectory = temporaryCache();

function optionsFor(name: string, encoding: MatrixEncoding = "float32"): DeviceOptions {
  const { directory: modelDirectory } = goldenCase(name);
  const model = { modelDirectory, cacheDirectory, encoding, threads: 1, onProgress: () => undefined };
  return { model, maxRows: 2, maxContext: 128, maxKvBytes: 0, prefixCacheBytes: 0 };
}

/** A software adapter in the place of the GPU that the machine is said to have. */
const choice = { gpu: { name: "a GPU", reason: null }, openGpu: openWebgpu, openCpu } as const;

/** Its first opening is checked. */
async function openKernel({ training }: OpenedDevice): Promise<void> {
  const kernel = await training.openKernel();
  await kernel.close();
}

for (const [name, encoding] of [
  ["gemma3", "float32"], // layers of two kinds
  ["llama", "int4"],
] as const) {
  test(`${name} in ${encoding} passes`, async () => {
    const device = await openWebgpu(optionsFor(name, encoding));
    await openKernel(device);
    await device.runner.dispose();
  });
}

test("a driver that computes wrong is refused by name, and left by auto with the reason", {
  skip,
}, async () => {
  driver!.setWrong(true);
  const refusals: unknown[] = [];
  const openNoted = (options: DeviceOptions) =>
    openWebgpu(options).catch((error: unknown) => {
      refusals.push(error);
      throw error;
    });
  const { name, note, runner } = await openAuto({ ...choice, openGpu: openNoted }, optionsFor("llama"));
  const [refusal] = refusals as [CotenantError];
  assert.equal(refusal.code, "device_computes_wrong");
  assert.match(refusal.message, /: in a prompt of 40 tokens with an adapter, logits are .* --device cpu$/);
  assert.equal(name, "cpu");
  assert.match(note, /^the CPU: a GPU does not serve: WebGPU computes this model otherwise/);
  await runner.dispose();
  driver!.setWrong(false);
});

test("a driver that computes wrong once it serves trains nothing, until it computes right", {
  skip,
}, async () => {
  const device = await openWebgpu(optionsFor("llama"));
  driver!.setWrong(true);
  await assert.rejects(openKernel(device), {
    code: "device_computes_wrong",
    message: /^WebGPU finds other gradients on this base than the CPU .* nothing can be trained on it/,
  });
  driver!.setWrong(false);
  await openKernel(device);
  await device.runner.dispose();
});

test("a device that is lost during the check is left by auto, and the next one is taken", {
  skip,
}, async () => {
  driver!.lose();
  const onCpu = await openAuto(choice, optionsFor("llama"));
  assert.ok(driver!.isLost());
  assert.equal(onCpu.name, "cpu");
  assert.match(onCpu.note, /^the CPU: a GPU does not serve: /);
  await onCpu.runner.dispose();
  const { name, note, runner } = await openAuto(choice, optionsFor("llama"));
  assert.deepEqual([name, note], ["webgpu", "a GPU"]);
  await runner.dispose();
});

test("where a GPU is expected, a software adapter is refused", {
  skip: findGpu().name !== null && "this machine has a GPU",
}, async () => {
  await assert.rejects(openGpu(optionsFor("llama")), {
    code: "device_not_available",
    message: /^WebGPU takes a software adapter instead; install the GPU's own Vulkan driver/,
  });
});
