// The CPU as a device: always there, serves every adapter kind, finetunes.

import { availableParallelism } from "node:os";
import { BaseModel, openBaseModel, type PreparedBase, writeGraph } from "../base-model.ts";
import { CpuRunner, type CpuRunnerOptions } from "../cpu/cpu-runner.ts";
import { CpuProbes } from "../cpu/probes.ts";
import type { OpenDevice } from "../device.ts";
import { buildForwardGraph } from "../forward-graph.ts";
import { dataFileName } from "../prepare/prepare-weights.ts";
import { Session } from "../session.ts";
import { precisions } from "../training/precision.ts";
import { TrainingKernel, untrainable } from "../training/training-kernel.ts";

export const openCpu: OpenDevice = async ({ model, maxRows, maxContext, maxKvBytes, prefixCacheBytes }) => {
  const base = await openBaseModel(model);
  const runner = new CpuRunner(base, {
    maxRows,
    maxContext,
    maxPrefixBytes: prefixCacheBytes,
    ...(maxKvBytes === 0 ? {} : { maxKvBytes }),
  });
  const threads = model.threads === 0 ? availableParallelism() : model.threads;
  const probes = new CpuProbes(base);
  const training = {
    problem: untrainable(base),
    precisions,
    baseBytes: 0, // the file that serves is read
    openKernel: () => TrainingKernel.open(base, { threads }),
    probes: () => probes,
  };
  return { base, runner, training, failure: base.failure };
};

/**
 * What other devices are compared with: quantized weights are multiplied by activations as they are, where serving
 * on the CPU rounds those as well.
 */
export async function openExactCpu(
  base: PreparedBase,
  { threads, ...limits }: CpuRunnerOptions & { readonly threads: number },
): Promise<CpuRunner> {
  const { config, layout } = base;
  const graphOptions = { config, layout, dataFile: dataFileName, exactActivations: true };
  const opened = await BaseModel.open({
    ...base,
    openSession: (features) =>
      Session.open({
        modelPath: writeGraph(base, buildForwardGraph({ ...graphOptions, features })),
        threads,
      }),
  });
  return new CpuRunner(opened, limits);
}
