// A finetuning job, its events and its checkpoints as OpenAI's API shows them.

import { z } from "@hono/zod-openapi";
import type { ServerContext } from "../../context.ts";
import { unresolved } from "../../finetuning/job-hyperparameters.ts";
import {
  type JobCheckpointRow,
  type JobNewsEntry,
  type JobRecord,
  jobStatuses,
} from "../../finetuning/job-record.ts";

const unixSeconds = z.int().openapi({ description: "Unix time in seconds" });
const settings = z.record(z.string(), z.unknown());
const withHyperparameters = z.object({ hyperparameters: settings });

export const jobAnswer = z
  .object({
    id: z.string(),
    object: z.literal("fine_tuning.job"),
    created_at: unixSeconds,
    finished_at: unixSeconds.nullable(),
    estimated_finish: unixSeconds.nullable(),
    status: z.enum(jobStatuses),
    model: z.string(),
    fine_tuned_model: z.string().nullable().openapi({ description: "Null until the job has succeeded." }),
    organization_id: z.string(),
    training_file: z.string(),
    validation_file: z.string().nullable(),
    result_files: z
      .array(z.string())
      .openapi({ description: "Of its steps, as CSV, once it has succeeded." }),
    seed: z.int(),
    trained_tokens: z.int().nullable(),
    hyperparameters: settings.openapi({ description: 'With "auto" until the files are validated.' }),
    method: z.object({
      type: z.enum(["supervised", "dpo"]),
      supervised: withHyperparameters.exactOptional(),
      dpo: withHyperparameters.exactOptional(),
      adapter: settings,
    }),
    user_provided_suffix: z.string().nullable(),
    integrations: z.array(z.unknown()),
    metadata: z.record(z.string(), z.string()).nullable(),
    error: z
      .object({ code: z.string(), message: z.string(), param: z.string().nullable() })
      .nullable()
      .openapi({ description: "Why it failed, or was paused by itself." }),
    total_steps: z.int().nullable(),
    memory_bytes: z.int().nullable().openapi({
      description: "What training takes of --training-memory-bytes; null until the files are validated.",
    }),
    truncated_examples: z
      .int()
      .nullable()
      .openapi({ description: "Whose end was cut off, as over_length says." }),
  })
  .openapi("FineTuningJob");

export type JobAnswer = z.output<typeof jobAnswer>;

export function jobAnswerOf(job: JobRecord, context: ServerContext): JobAnswer {
  const { jobs, trainingFiles } = context.readiness.serving;
  const { asked, plan, problem, resultFile } = job;
  const type = asked.objective === "dpo" ? "dpo" : "supervised";
  const hyperparameters = plan?.resolved ?? unresolved(asked);
  const estimatedFinishMs = job.status === "running" ? jobs.estimatedFinishMs(job.id) : null;
  return {
    id: job.id,
    object: "fine_tuning.job",
    created_at: seconds(job.createdAtMs),
    finished_at: job.finishedAtMs === null ? null : seconds(job.finishedAtMs),
    estimated_finish: estimatedFinishMs === null ? null : seconds(estimatedFinishMs),
    status: job.status,
    model: job.model,
    fine_tuned_model: job.status === "succeeded" ? job.resultId : null,
    organization_id: job.tenant.id,
    training_file: job.trainingFile,
    validation_file: job.validationFile,
    result_files: resultFile !== null && trainingFiles.has(resultFile) ? [resultFile] : [],
    seed: asked.seed,
    trained_tokens: job.steps === null ? null : jobs.store.history.trainedTokens(job.id),
    hyperparameters,
    method: {
      type,
      [type]: { hyperparameters },
      adapter: { type: asked.method.name, ...asked.method.settings },
    },
    user_provided_suffix: job.suffix,
    integrations: [],
    metadata: job.metadata && { ...job.metadata },
    error: problem && { code: problem.code, message: problem.message, param: problem.param ?? null },
    total_steps: job.steps,
    memory_bytes: plan?.memoryBytes ?? null,
    truncated_examples: plan?.truncatedExamples ?? null,
  };
}

export const eventAnswer = z
  .object({
    id: z.string(),
    object: z.literal("fine_tuning.job.event"),
    created_at: unixSeconds,
    level: z.enum(["info", "warn", "error"]),
    message: z.string(),
    type: z.enum(["message", "metrics"]),
    data: z.record(z.string(), z.unknown()),
  })
  .openapi("FineTuningJobEvent");

export function eventAnswerOf(jobId: string, news: JobNewsEntry): z.output<typeof eventAnswer> {
  const { index, createdAtMs, level, message, type, data } = news;
  return {
    id: `${eventPrefix(jobId)}${index}`,
    object: "fine_tuning.job.event",
    created_at: seconds(createdAtMs),
    level,
    message,
    type,
    data: { ...data },
  };
}

export const checkpointAnswer = z
  .object({
    id: z.string(),
    object: z.literal("fine_tuning.job.checkpoint"),
    created_at: unixSeconds,
    fine_tuning_job_id: z.string(),
    fine_tuned_model_checkpoint: z.string(),
    step_number: z.int(),
    metrics: z.record(z.string(), z.number()),
    version: z.string(),
  })
  .openapi("FineTuningJobCheckpoint");

export function checkpointAnswerOf(jobId: string, row: JobCheckpointRow): z.output<typeof checkpointAnswer> {
  return {
    id: `${checkpointPrefix(jobId)}${row.step}`,
    object: "fine_tuning.job.checkpoint",
    created_at: seconds(row.createdAtMs),
    fine_tuning_job_id: jobId,
    fine_tuned_model_checkpoint: row.adapterId,
    step_number: row.step,
    metrics: { ...row.metrics },
    version: row.version,
  };
}

export function eventPrefix(jobId: string): string {
  return jobId.replace("ftjob-", "ftevent-").concat("-");
}

export function checkpointPrefix(jobId: string): string {
  return jobId.replace("ftjob-", "ftckpt-").concat("-");
}

function seconds(milliseconds: number): number {
  return Math.floor(milliseconds / 1000);
}
