// WebGPU as a device: any vendor's GPU through the provider inside onnxruntime-node. What it does not do yet is in
// docs/webgpu.md.

import type { OpenDevice } from "../device.ts";
import { openWebgpuModel } from "../webgpu/webgpu-model.ts";
import { WebgpuRunner } from "../webgpu/webgpu-runner.ts";

export const openWebgpu: OpenDevice = async ({ model: options, maxRows, maxContext, maxKvBytes }) => {
  const model = await openWebgpuModel(options);
  const limits = { maxRows, maxContext, ...(maxKvBytes === 0 ? {} : { maxKvBytes }) };
  const runner = await WebgpuRunner.open(model, limits);
  return { base: model.base, runner, trainable: null, failure: runner.failure };
};
