// A golden checkpoint on WebGPU, with its adapters, as the tests of this folder use it.

import type { DecodedAdapter } from "../../kernels/adapter.ts";
import type { MatrixEncoding } from "../../kernels/prepare/layout.ts";
import { openWebgpuModel } from "../../kernels/webgpu/webgpu-model.ts";
import { WebgpuRunner } from "../../kernels/webgpu/webgpu-runner.ts";
import { type GoldenCase, goldenAdapter } from "../golden/golden-case.ts";

export type WebgpuGoldenOptions = {
  readonly cacheDirectory: string;
  readonly encoding?: MatrixEncoding;
  readonly maxRows?: number;
  readonly maxContext?: number;
  readonly maxKvBytes?: number;
};

/** @throws CotenantError `device_not_available`: scripts/webgpu-tests.sh brings a software adapter */
export async function openWebgpuGolden(
  golden: GoldenCase,
  options: WebgpuGoldenOptions,
): Promise<WebgpuRunner> {
  const { cacheDirectory, encoding = "float32", maxRows = 8, maxContext = 512, maxKvBytes } = options;
  const model = await openWebgpuModel({
    modelDirectory: golden.directory,
    cacheDirectory,
    encoding,
    threads: 1,
    onProgress: () => undefined,
  });
  const limits = { maxRows, maxContext, ...(maxKvBytes === undefined ? {} : { maxKvBytes }) };
  const runner = await WebgpuRunner.open(model, limits);
  for (const name of ["wide", "narrow"]) runner.addAdapter(name, goldenAdapter(golden, name, model.base));
  return runner;
}

/** Of a kind that this device refuses. */
export const unservedAdapter: DecodedAdapter = {
  modules: [{ kind: "scale", layer: 0, projection: "o", scale: new Float32Array(64), shift: null }],
};
