// What a job's files decide: how many steps it has, what memory and what room on the disk it takes. Encodes the files to
// tell, and keeps nothing of that.

import { largestWindow } from "../../finetuning/largest-window.ts";
import { ledgerBytes } from "../../finetuning/methods/seed-ledger-of.ts";
import { type JobData, type JobMemory, jobMemory } from "../../finetuning/training-memory.ts";
import type { ServedModel } from "../../scheduler/protocol.ts";
import { RequestError } from "../errors.ts";
import { hyperparameters } from "./hyperparameters.ts";
import { encodeJobFile, hashExamples, type JobDataSources, trainingFileOf } from "./job-data.ts";
import { type Asked, resolveSpec } from "./job-hyperparameters.ts";
import type { JobPlan, JobRecord } from "./job-record.ts";
import { namingFields } from "./naming-fields.ts";
import { stepsLineBytes } from "./steps-csv.ts";

export type PlanParts = {
  readonly sources: JobDataSources;
  readonly model: ServedModel;
  readonly trainingMemoryBytes: number; // of all jobs together
};

type MemoryParts = Pick<PlanParts, "model" | "trainingMemoryBytes">;

export const fileFields = ["training_file", "validation_file"] as const;
export type FileField = (typeof fileFields)[number];

const keptCheckpoints = 2;
const loggedBytes = 16; // of a step, where a checkpoint holds a log of them

/** To be called in one's turn to encode. Throws RequestErrors that name the field. */
export async function planJob(job: JobRecord, parts: PlanParts, signal: AbortSignal): Promise<JobPlan> {
  const { sources, model } = parts;
  const { maxTokens, overLength, trainOnPrompt, parent, asked } = job;
  const encode = (field: FileField, id: string) =>
    namingFields(() => {
      const file = trainingFileOf(sources.files, job.tenant.id, id);
      return encodeJobFile(file, sources, { maxTokens, overLength, trainOnPrompt, signal });
    }, field);
  const training = await encode("training_file", job.trainingFile);
  const validation = job.validationFile === null ? null : await encode("validation_file", job.validationFile);
  const from = parent === null ? null : await sources.adapters.decode(parent.version);
  const { sequences, truncated } = training.report;
  const examples = { training: training.examples, validation: validation?.examples ?? null };
  const examplesHash = await hashExamples(examples.training, examples.validation);
  return namingFields(() => {
    const count = asked.objective === "dpo" ? sequences / 2 : sequences;
    const { spec, steps, resolved } = resolveSpec(withWindowFor(model.targets, asked), count);
    const memory = neededMemory({ spec, ...examples, from }, parts);
    return {
      spec,
      resolved: {
        ...resolved,
        max_tokens: maxTokens,
        over_length: overLength,
        train_on_prompt: trainOnPrompt,
      },
      memoryBytes: memory.bytes,
      keptBytes:
        keptCheckpoints * (memory.checkpointBytes + loggedBytes * steps) +
        stepsLineBytes * (steps + 1) +
        (parent === null ? ledgerBytes(spec, steps) : 0),
      truncatedExamples: truncated + (validation?.report.truncated ?? 0),
      examplesHash,
    };
  });
}

/** With what the device holds of the base for all jobs. Throws RequestError `training_does_not_fit`. */
export function neededMemory(job: JobData, { model, trainingMemoryBytes }: MemoryParts): JobMemory {
  const memory = jobMemory(job, model.targets);
  const { trainingBaseBytes } = model;
  const bytes = memory.bytes + trainingBaseBytes;
  if (bytes <= trainingMemoryBytes) return { ...memory, bytes };
  const ofBase =
    trainingBaseBytes === 0
      ? ""
      : ` (${trainingBaseBytes} of them the base's weights, which the device holds once more for training)`;
  throw new RequestError(
    "training_does_not_fit",
    `training would take ${bytes} bytes${ofBase}, more than the ${trainingMemoryBytes} of --training-memory-bytes; shorten the examples or let them be truncated (max_tokens, over_length), lower pass_tokens or the rank, or ask the operator`,
  );
}

/** The engine cuts no longer windows on this base, and the job shall say so. */
function withWindowFor(targets: ServedModel["targets"], asked: Asked): Asked {
  const { window_tokens: wanted = hyperparameters.window_tokens.default } = asked.hyperparameters;
  const window_tokens = Math.min(wanted, largestWindow(targets));
  return { ...asked, hyperparameters: { ...asked.hyperparameters, window_tokens } };
}
