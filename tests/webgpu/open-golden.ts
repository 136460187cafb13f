// Tiny checkpoints on WebGPU, as the tests of this folder use them.

import type { MatrixEncoding } from "../../kernels/prepare/layout.ts";
import { openWebgpuModel, type WebgpuModel } from "../../kernels/webgpu/webgpu-model.ts";
import { WebgpuRunner } from "../../kernels/webgpu/webgpu-runner.ts";
import { type GoldenCase, goldenAdapter } from "../golden/golden-case.ts";

export type WebgpuGoldenOptions = {
  readonly cacheDirectory: string;
  readonly encoding?: MatrixEncoding;
  readonly maxRows?: number;
  readonly maxContext?: number;
  readonly maxKvBytes?: number;
};

/** With both of its adapters. */
export async function openWebgpuGolden(
  golden: GoldenCase,
  options: WebgpuGoldenOptions,
): Promise<WebgpuRunner> {
  const { runner, model } = await openWebgpuCheckpoint(golden.directory, options);
  for (const name of ["wide", "narrow"]) runner.addAdapter(name, goldenAdapter(golden, name, model.base));
  return runner;
}

/** @throws CotenantError `device_not_available`: scripts/webgpu-tests.sh brings a software adapter */
export async function openWebgpuCheckpoint(
  modelDirectory: string,
  options: WebgpuGoldenOptions,
): Promise<{ runner: WebgpuRunner; model: WebgpuModel }> {
  const { cacheDirectory, encoding = "float32", maxRows = 8, maxContext = 512, maxKvBytes } = options;
  const model = await openWebgpuModel({
    modelDirectory,
    cacheDirectory,
    encoding,
    threads: 1,
    onProgress: () => undefined,
  });
  const limits = { maxRows, maxContext, ...(maxKvBytes === undefined ? {} : { maxKvBytes }) };
  return { runner: await WebgpuRunner.open(model, limits), model };
}
