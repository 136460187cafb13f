// WebGPU as a device: any vendor's GPU through the provider inside onnxruntime-node. It serves only where it computes
// what the CPU computes.

import type { DeviceOptions, DeviceTraining, OpenDevice, OpenedDevice } from "../device.ts";
import { CotenantError } from "../errors.ts";
import { shortenedBase } from "../shortened-base.ts";
import { TrainingKernel } from "../training/training-kernel.ts";
import { type Watch, webgpuTraining } from "../webgpu/training-device.ts";
import { type CheckDevice, openOnDevice, openWebgpuModel, type WebgpuModel } from "../webgpu/webgpu-model.ts";
import { WebgpuRunner, type WebgpuRunnerOptions } from "../webgpu/webgpu-runner.ts";
import { openExactCpu } from "./cpu.ts";
import { isGpuOpen } from "./find-gpu.ts";
import { assertSame, checkedRows, checkLimits } from "./self-check.ts";
import { assertSameGradients, checkedGradients } from "./training-check.ts";

/** Whatever adapter WebGPU takes, software that plays a GPU as well. */
export const openWebgpu: OpenDevice = (options) => open(options, computesRight(options));

/** A graphics processor. @throws CotenantError `device_not_available` where WebGPU takes software instead */
export const openGpu: OpenDevice = (options) =>
  open(options, async (base, parts) => {
    if (!isGpuOpen()) throw new CotenantError("device_not_available", noDriver);
    await computesRight(options)(base, parts);
  });

const noDriver =
  "WebGPU takes a software adapter instead; install the GPU's own Vulkan driver (in a container, let it see the host's: for NVIDIA, the capability graphics)";

async function open(options: DeviceOptions, check: CheckDevice): Promise<OpenedDevice> {
  const { maxRows, maxContext, maxKvBytes, prefixCacheBytes } = options;
  const model = await openWebgpuModel(options.model, check);
  const limits = {
    maxRows,
    maxContext,
    maxPrefixBytes: prefixCacheBytes,
    ...(maxKvBytes === 0 ? {} : { maxKvBytes }),
  };
  const runner = await openRunner(model, limits);
  const training = checkedTraining(model, {
    threads: options.model.threads,
    watch: (run) => runner.watched(run),
  });
  return { base: model.base, runner, training, failure: runner.failure };
}

/** Leaves nothing on the device where it does not open. */
async function openRunner(model: WebgpuModel, limits: WebgpuRunnerOptions): Promise<WebgpuRunner> {
  try {
    return await WebgpuRunner.open(model, limits);
  } catch (error) {
    await model.close();
    throw error;
  }
}

/**
 * The CPU's side is gone before the device's begins, and both are of a few layers: neither takes the memory of a model
 * beside the one that is to serve.
 */
function computesRight({ model: { threads, onProgress } }: DeviceOptions): CheckDevice {
  const report = (done: number) => onProgress("checking the device", done, 2);
  return async (base, parts) => {
    const few = shortenedBase(base);
    report(0);
    const cpu = await openExactCpu(few, { ...checkLimits, threads });
    const expected = await checkedRows(cpu, few.config);
    report(1);
    const device = await openRunner(await openOnDevice(few, parts), checkLimits);
    assertSame(await checkedRows(device, few.config), expected);
    report(2);
  };
}

/** The first kernel is opened once it has found the CPU's gradients; the check is a job's first unit, and not serving's. */
function checkedTraining(
  model: WebgpuModel,
  { threads, watch }: { readonly threads: number; readonly watch: Watch },
): DeviceTraining {
  const training = webgpuTraining(model, watch);
  const few = shortenedBase(model.base);
  let isChecked = false;
  return {
    ...training,
    async openKernel() {
      if (!isChecked) {
        const expected = await checkedGradients(await TrainingKernel.open(few, { threads }), few.config);
        const kernel = await webgpuTraining({ ...model, base: few }, watch).openKernel();
        assertSameGradients(await checkedGradients(kernel, few.config), expected);
        isChecked = true;
      }
      return training.openKernel();
    },
  };
}
