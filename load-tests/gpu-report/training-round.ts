// A step of LoRA training on a device: forward, loss and backward, no optimizer.

import type { AdapterTargets } from "../../kernels/adapter.ts";
import type { DeviceTraining } from "../../kernels/device.ts";
import { randomStep } from "../training-step/random-step.ts";
import { median, type ReportPlan } from "./report-plan.ts";

export type TrainingRound = { readonly msPerStep: number; readonly tokensPerSecond: number };

/** @returns null where the base cannot be trained */
export async function trainingRound(
  training: DeviceTraining,
  { layers, vocabSize }: AdapterTargets,
  { rank, trained, rounds }: ReportPlan,
): Promise<TrainingRound | null> {
  if (training.problem !== null) return null;
  const kernel = await training.openKernel();
  const step = randomStep(kernel, { layers, vocabSize, rank, lengths: trained });
  const times: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    const startMs = performance.now();
    await step();
    times.push(performance.now() - startMs);
  }
  await kernel.close();
  const msPerStep = median(times.slice(1)); // the first one compiles
  const tokens = trained.reduce((sum, length) => sum + length, 0);
  return { msPerStep, tokensPerSecond: (tokens * 1000) / msPerStep };
}
