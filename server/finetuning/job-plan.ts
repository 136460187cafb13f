// What a job's files decide: how many steps it has, what memory and what room on the disk it takes. Encodes the files to
// tell, and keeps nothing of that.

import type { TrainingSpec } from "../../finetuning/job.ts";
import { largestUnit } from "../../finetuning/largest-window.ts";
import { methods } from "../../finetuning/methods/index.ts";
import type { Method } from "../../finetuning/methods/method.ts";
import { ledgerBytes } from "../../finetuning/methods/seed-ledger-of.ts";
import { type JobData, type JobMemory, jobMemory } from "../../finetuning/training-memory.ts";
import type { ServedModel } from "../../scheduler/protocol.ts";
import { RequestError } from "../errors.ts";
import type { GiveWay } from "./encoding-turns.ts";
import { encodeJobFile, hashExamples, type JobDataSources, trainingFileOf } from "./job-data.ts";
import { resolveSpec, withoutIdle } from "./job-hyperparameters.ts";
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
export async function planJob(job: JobRecord, parts: PlanParts, giveWay: GiveWay): Promise<JobPlan> {
  const { sources } = parts;
  const { maxTokens, overLength, trainOnPrompt, parent, asked } = job;
  const encode = (field: FileField, id: string) =>
    namingFields(() => {
      const file = trainingFileOf(sources.files, job.tenant.id, id);
      return encodeJobFile(file, sources, { maxTokens, overLength, trainOnPrompt, giveWay });
    }, field);
  const training = await encode("training_file", job.trainingFile);
  const validation = job.validationFile === null ? null : await encode("validation_file", job.validationFile);
  const from = parent === null ? null : await sources.adapters.decode(parent.version);
  const { sequences, truncated } = training.report;
  const examples = { training: training.examples, validation: validation?.examples ?? null };
  const examplesHash = await hashExamples(examples.training, examples.validation);
  return namingFields(() => {
    const count = asked.objective === "dpo" ? sequences / 2 : sequences;
    const { spec: wanted, steps, resolved } = resolveSpec(asked, count);
    const { window_tokens } = asked.hyperparameters;
    const { spec, memory } = fittedJob({ spec: wanted, ...examples, from }, window_tokens, parts);
    return {
      spec,
      resolved: withoutIdle(
        {
          ...resolved,
          window_tokens: spec.windowTokens,
          max_tokens: maxTokens,
          over_length: overLength,
          train_on_prompt: trainOnPrompt,
        },
        asked,
      ),
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

/** Below this a unit's time is reading the layer's weights, and shorter ones save little memory. */
const leastOwnWindow = 64;

/**
 * The job with the window that it gets: as asked, or else the default, halved for as long as the job does not fit. No
 * longer one than the base allows: the engine would cut it. Memory is with what the device holds of the base for all jobs.
 * Throws RequestError `training_does_not_fit`.
 */
export function fittedJob(
  job: JobData,
  windowTokens: number | undefined,
  { model, trainingMemoryBytes }: MemoryParts,
): { readonly spec: TrainingSpec; readonly memory: JobMemory } {
  const { targets, trainingBaseBytes } = model;
  const fitted = (window: number) => {
    const spec = { ...job.spec, windowTokens: window };
    const memory = jobMemory({ ...job, spec }, targets);
    return { spec, memory: { ...memory, bytes: memory.bytes + trainingBaseBytes } };
  };
  const method: Method = methods[job.spec.method.name];
  let own = fitted(Math.min(job.spec.windowTokens, largestUnit(method, targets)));
  while (own.memory.bytes > trainingMemoryBytes && windowTokens === undefined) {
    const half = own.spec.windowTokens / 2;
    if (half < leastOwnWindow) break;
    own = fitted(half - (half % 16));
  }
  const { bytes } = own.memory;
  if (bytes <= trainingMemoryBytes) return own;
  const ofBase =
    trainingBaseBytes === 0
      ? ""
      : ` (${trainingBaseBytes} of them the base's weights, which the device holds once more for training)`;
  throw new RequestError(
    "training_does_not_fit",
    `training would take ${bytes} bytes${ofBase}, more than the ${trainingMemoryBytes} of --training-memory-bytes; shorten the examples or let them be truncated (max_tokens, over_length), lower pass_tokens, window_tokens or the rank, or ask the operator`,
  );
}
