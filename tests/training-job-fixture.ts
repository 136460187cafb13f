// A small base and jobs on it, for tests.

import { join } from "node:path";
import type { JobEvent, JobStart, TrainingExamples, TrainingSpec } from "../finetuning/job.ts";
import { optimizers } from "../finetuning/optimizers/index.ts";
import { TrainingJob, type TrainingJobOptions } from "../finetuning/training-job.ts";
import { openBaseModel } from "../kernels/base-model.ts";
import { CpuProbes } from "../kernels/cpu/probes.ts";
import { adapterTargets } from "../kernels/model-family.ts";
import { randomAt } from "../kernels/sampling/random.ts";
import { TrainingKernel } from "../kernels/training/training-kernel.ts";
import type { TrainingUnit } from "../kernels/training/training-pass.ts";
import { temporaryCache } from "./golden/golden-case.ts";

export const smallBaseDirectory = join(import.meta.dirname, "golden", "cases", "llama");

export async function openSmallKernel(): Promise<Omit<TrainingJobOptions, "report">> {
  const base = await openBaseModel({
    modelDirectory: smallBaseDirectory,
    cacheDirectory: temporaryCache(),
    encoding: "float32",
    threads: 1,
    onProgress: () => undefined,
  });
  const kernel = await TrainingKernel.open(base, { threads: 1 });
  return { kernel, probes: new CpuProbes(base), targets: adapterTargets(base.config) };
}

/** @param sequences each with the weights of its tokens */
export function examplesOf(
  sequences: readonly { readonly tokens: readonly number[]; readonly weights: readonly number[] }[],
): TrainingExamples {
  let end = 0;
  return {
    tokenIds: Int32Array.from(sequences.flatMap(({ tokens }) => tokens)),
    weights: Float32Array.from(sequences.flatMap(({ weights }) => weights)),
    ends: Int32Array.from(sequences, ({ tokens }) => {
      end += tokens.length;
      return end;
    }),
  };
}

/** Sequences of 3 to 14 tokens, the first one or two not scored. */
export function randomExamples(count: number, seed: number): TrainingExamples {
  let draws = 0;
  const below = (limit: number) => Math.floor(randomAt(seed, draws++) * limit);
  return examplesOf(
    Array.from({ length: count }, () => {
      const tokens = Array.from({ length: 3 + below(12) }, () => below(64));
      const prompt = 1 + below(2);
      return { tokens, weights: tokens.map((_, at) => (at < prompt ? 0 : 0.5 + below(2))) };
    }),
  );
}

export const smallSpec: TrainingSpec = {
  method: { name: "lora", settings: { rank: 2 } },
  objective: { name: "cross-entropy", beta: 0.1 },
  optimizer: { name: "adamw", settings: optimizers.adamw.defaults },
  schedule: "cosine",
  warmupSteps: 1,
  learningRate: 1e-2,
  epochs: 2,
  batchSize: 3,
  passTokens: 24,
  windowTokens: 16,
  precision: "float32",
  maxGradientNorm: 1,
  maxSkippedSteps: 3,
  checkpointSteps: 1000,
  seed: 11,
};

export function smallStart(spec: Partial<TrainingSpec>, rest: Partial<JobStart> = {}): JobStart {
  return {
    id: "job",
    tenant: { id: "tenant", weight: 1 },
    spec: { ...smallSpec, ...spec },
    training: randomExamples(7, 3),
    validation: null,
    from: null,
    checkpoint: null,
    ...rest,
  };
}

/** @param until whether to pause, asked before each unit */
export async function runJob(
  start: JobStart,
  on: Omit<TrainingJobOptions, "report">,
  until: (events: readonly JobEvent[], unit: TrainingUnit) => boolean = () => false,
): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  const job = new TrainingJob(start, { ...on, report: (event) => events.push(event) });
  const units = job.units();
  for (const unit of units) {
    if (until(events, unit)) {
      units.return();
      await runUnits(job.pause());
      break;
    }
    await unit.run();
  }
  return events;
}

export async function runUnits<Result>(units: Generator<TrainingUnit, Result, void>): Promise<Result> {
  for (;;) {
    const next = units.next();
    if (next.done) return next.value;
    await next.value.run();
  }
}

export function eventsOf<Type extends JobEvent["type"]>(
  events: readonly JobEvent[],
  type: Type,
): Extract<JobEvent, { type: Type }>[] {
  return events.filter((event): event is Extract<JobEvent, { type: Type }> => event.type === type);
}
