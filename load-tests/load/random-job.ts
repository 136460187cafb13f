// A finetuning job on random tokens, for measurements that give it to the engine themselves.

import type { JobStart, TrainingSpec } from "../../finetuning/job.ts";
import { methods } from "../../finetuning/methods/index.ts";
import { optimizers } from "../../finetuning/optimizers/index.ts";
import { checkSettings, type Settings } from "../../finetuning/settings.ts";
import { Random } from "./random.ts";

type Sizes = Pick<TrainingSpec, "batchSize" | "passTokens" | "windowTokens">;

/** LoRA on all projections by AdamW, which nothing ends. @param lora what differs from the method's own settings */
export function loraSpec(lora: Settings, sizes: Sizes & Partial<TrainingSpec>): TrainingSpec {
  return {
    method: { name: "lora", settings: checkSettings(methods.lora.settings, lora, "lora") },
    objective: { name: "cross-entropy", beta: 0 },
    optimizer: { name: "adamw", settings: optimizers.adamw.defaults },
    schedule: "constant",
    warmupSteps: 0,
    learningRate: 1e-5,
    epochs: 1_000_000,
    precision: "float32",
    maxGradientNorm: 1,
    maxSkippedSteps: 3,
    checkpointSteps: 1_000_000,
    seed: 1,
    ...sizes,
  };
}

export type RandomExamples = {
  readonly vocabSize: number;
  readonly lengths: readonly number[]; // tokens of each
  readonly scored: (length: number) => number; // tokens at its end, of that many
};

export function randomJob(spec: TrainingSpec, { vocabSize, lengths, scored }: RandomExamples): JobStart {
  const random = new Random(spec.seed);
  const weights = lengths.flatMap((length) => {
    const prompt = Math.max(1, length - scored(length));
    return Array.from({ length }, (_, at) => (at < prompt ? 0 : 1));
  });
  let end = 0;
  const ends = lengths.map((length) => {
    end += length;
    return end;
  });
  return {
    id: "job",
    tenant: { id: "trainer", weight: 1 },
    spec,
    training: {
      tokenIds: Int32Array.from(weights, () => random.below(vocabSize)),
      weights: Float32Array.from(weights),
      ends: Int32Array.from(ends),
    },
    validation: null,
    from: null,
    checkpoint: null,
  };
}
