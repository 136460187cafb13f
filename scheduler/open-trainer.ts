// The trainer of a device: jobs with its base, kernel and probes.

import { Trainer } from "../finetuning/trainer.ts";
import { TrainingJob } from "../finetuning/training-job.ts";
import { jobMemory } from "../finetuning/training-memory.ts";
import type { OpenedDevice } from "../kernels/device.ts";
import { adapterTargets } from "../kernels/model-family.ts";
import type { TrainingKernel } from "../kernels/training/training-kernel.ts";
import type { SchedulingOptions } from "./scheduling-options.ts";

export function openTrainer(
  { base, training }: Pick<OpenedDevice, "base" | "training">,
  { trainingMemoryBytes }: Pick<SchedulingOptions, "trainingMemoryBytes">,
): Trainer<TrainingKernel> {
  const targets = adapterTargets(base.config);
  return new Trainer({
    memoryBytes: Math.max(0, trainingMemoryBytes - training.baseBytes),
    memoryOf: (job) => jobMemory(job, targets),
    openKernel: training.openKernel,
    openJob: (start, { kernel, report }) =>
      new TrainingJob(start, { kernel, probes: training.probes(kernel), targets, report }),
  });
}
