// A step of LoRA training on a device: forward, loss and backward, no optimizer.

import { type AdapterTargets, projections } from "../../kernels/adapter.ts";
import type { DeviceTraining } from "../../kernels/device.ts";
import { randomAt } from "../../kernels/sampling/random.ts";
import { median, type ReportPlan } from "./report-plan.ts";

export type TrainingRound = { readonly msPerStep: number; readonly tokensPerSecond: number };

/** @returns null where the base cannot be trained */
export async function trainingRound(
  training: DeviceTraining,
  { layers }: AdapterTargets,
  { rank, trained, rounds }: ReportPlan,
): Promise<TrainingRound | null> {
  if (training.problem !== null) return null;
  const kernel = await training.openKernel();
  const shapes = Array.from({ length: layers }, (_, layer) =>
    projections.map((projection) => ({ layer, projection, rank, scale: 1 })),
  ).flat();
  const parameters = kernel.parameters(shapes);
  const gradients = kernel.parameters(shapes);
  let draws = 0;
  for (const { a } of parameters.modules) {
    for (let index = 0; index < a.length; index++) a[index] = (randomAt(1, draws++) - 0.5) / 10;
  }
  const sequences = trained.map((length) => ({
    tokenIds: Array.from({ length }, (_, index) => 10 + ((index * 7) % 200)),
    scored: Array.from({ length: length - (length >> 1) }, (_, at) => (length >> 1) + at),
  }));
  const step = async () => {
    gradients.flat.fill(0);
    const pass = kernel.pass(sequences, { modules: parameters.modules, train: true });
    for (const unit of pass.forward()) await unit.run();
    const logprobs = pass.logprobs();
    const slopes = Float64Array.from(logprobs, () => -1 / logprobs.length);
    for (const unit of pass.backward(slopes, gradients)) await unit.run();
  };
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
