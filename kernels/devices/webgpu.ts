// WebGPU as a device: any vendor's GPU through the provider inside onnxruntime-node.

import type { OpenDevice } from "../device.ts";
import { webgpuTraining } from "../webgpu/training-device.ts";
import { openWebgpuModel } from "../webgpu/webgpu-model.ts";
import { WebgpuRunner } from "../webgpu/webgpu-runner.ts";

/** What the CPU has and this does not (docs/webgpu.md); once it is nothing, `auto` takes a GPU where there is one. */
export const webgpuLacks: readonly string[] = ["proof on a real GPU"];

export const openWebgpu: OpenDevice = async ({
  model: options,
  maxRows,
  maxContext,
  maxKvBytes,
  prefixCacheBytes,
}) => {
  const model = await openWebgpuModel(options);
  const limits = {
    maxRows,
    maxContext,
    maxPrefixBytes: prefixCacheBytes,
    ...(maxKvBytes === 0 ? {} : { maxKvBytes }),
  };
  const runner = await WebgpuRunner.open(model, limits);
  const training = webgpuTraining(model, (run) => runner.watched(run));
  return { base: model.base, runner, training, failure: runner.failure };
};
