// The CPU as a device: always there, serves every adapter kind, finetunes.

import { availableParallelism } from "node:os";
import { openBaseModel } from "../base-model.ts";
import { CpuRunner } from "../cpu/cpu-runner.ts";
import { CpuProbes } from "../cpu/probes.ts";
import type { OpenDevice } from "../device.ts";
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
    baseBytes: 0, // the file that serves is read
    openKernel: () => TrainingKernel.open(base, { threads }),
    probes: () => probes,
  };
  return { base, runner, training, failure: new Promise(() => {}) };
};
