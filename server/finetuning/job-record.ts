// What is kept of a finetuning job, and the states that it goes through. Knows no files, no engine and no HTTP.

import { randomBytes } from "node:crypto";
import type { JobProblem, TrainingSpec } from "../../finetuning/job.ts";
import { CotenantError } from "../../kernels/errors.ts";
import type { Quantization } from "../../scheduler/protocol.ts";
import type { Tenant } from "../tenancy/tenant.ts";
import type { Asked } from "./job-hyperparameters.ts";

export const jobStatuses = [
  "validating_files",
  "queued",
  "running",
  "paused",
  "succeeded",
  "failed",
  "cancelled",
] as const;
export type JobStatus = (typeof jobStatuses)[number];

const allowed: Readonly<Record<JobStatus, readonly JobStatus[]>> = {
  validating_files: ["queued", "paused", "cancelled", "failed"],
  queued: ["running", "paused", "cancelled", "failed"],
  running: ["paused", "succeeded", "failed", "cancelled"],
  paused: ["queued", "validating_files", "cancelled"],
  succeeded: [],
  failed: [],
  cancelled: [],
};

export type JobRecord = {
  readonly id: string;
  readonly tenant: Tenant; // as it was when the job was made or last resumed: quotas and weight
  readonly baseFingerprint: string;
  readonly status: JobStatus;
  readonly createdAtMs: number; // Unix time
  readonly finishedAtMs: number | null;
  readonly model: string; // as requests name it
  readonly parent: { readonly id: string; readonly version: string } | null; // an adapter to continue from
  readonly resultId: string; // the adapter id that the result gets
  readonly suffix: string | null;
  readonly trainingFile: string;
  readonly validationFile: string | null;
  readonly asked: Asked;
  readonly maxTokens: number; // of a sequence
  readonly overLength: "refuse" | "truncate";
  readonly trainOnPrompt: boolean;
  readonly resultBytes: number; // of the numbers that are trained, as the result's file has them
  readonly quantization: Quantization; // of the base that it was begun on
  readonly metadata: Readonly<Record<string, string>> | null;
  readonly plan: JobPlan | null; // null until its files are validated
  readonly steps: number | null; // in all; null until the engine has said it
  readonly resultVersion: string | null; // once it is published
  readonly resultFile: string | null; // the id of the file of its steps, from when the result is published
  readonly engineDeaths: number; // while it was in the engine, since its last checkpoint
  readonly problem: RecordedProblem | null; // why it failed or was paused
};

/** What a job's files decide. */
export type JobPlan = {
  readonly spec: TrainingSpec;
  readonly resolved: Readonly<Record<string, unknown>>; // the hyperparameters with nothing left open, for the answers
  readonly memoryBytes: number; // that training takes
  readonly keptBytes: number; // that it takes at most on the disk beside its result
  readonly truncatedExamples: number;
  readonly examplesHash: string; // of what the files were encoded to
};

export type PlannedJob = JobRecord & { readonly plan: JobPlan };

/** `param`: the request's field, where one is to blame. */
export type RecordedProblem = JobProblem & { readonly param?: string };

export type JobStep = {
  readonly step: number; // from 1
  readonly trainLoss: number;
  readonly tokens: number;
  readonly learningRate: number;
  readonly gradientNorm: number | null;
  readonly skipped: boolean;
  readonly trainMetrics: Readonly<Record<string, number>>;
};

export type JobValidation = {
  readonly step: number;
  readonly loss: number;
  readonly metrics: Readonly<Record<string, number>>;
};

export type JobCheckpointRow = {
  readonly step: number;
  readonly createdAtMs: number;
  readonly adapterId: string;
  readonly version: string;
  readonly metrics: Readonly<Record<string, number>>; // by OpenAI's names
};

export type JobNews = {
  readonly level: "info" | "warn" | "error";
  readonly type: "message" | "metrics";
  readonly message: string;
  readonly data: Readonly<Record<string, unknown>> | null;
};

/** As a job's list has it. */
export type JobNewsEntry = JobNews & { readonly index: number; readonly createdAtMs: number };

/** A job was asked for what its state does not allow. */
export class JobStateError extends CotenantError {
  constructor(action: string, { id, status }: Pick<JobRecord, "id" | "status">) {
    super("job_state", `${id} is ${status} and cannot be ${action}`);
  }
}

/** The one place where a job's state changes. Throws JobStateError. */
export function transition(
  job: JobRecord,
  status: JobStatus,
  changes: Partial<Pick<JobRecord, "plan" | "problem" | "tenant">> = {},
): JobRecord {
  if (!allowed[job.status].includes(status)) throw new JobStateError(status, job);
  const finishedAtMs = allowed[status].length === 0 ? Date.now() : null;
  return { ...job, problem: null, ...changes, status, finishedAtMs };
}

export function isOver({ status }: Pick<JobRecord, "status">): boolean {
  return allowed[status].length === 0;
}

export function isPlanned(job: JobRecord): job is PlannedJob {
  return job.plan !== null;
}

/** Throws TypeError for a job whose files are not validated: such a one gets no turn. */
export function plannedJob(job: JobRecord): PlannedJob {
  if (!isPlanned(job)) throw new TypeError(`${job.id} has no plan yet`);
  return job;
}

export function info(message: string): JobNews {
  return { level: "info", type: "message", message, data: null };
}

export function newJobId(): string {
  return `ftjob-${randomBytes(12).toString("hex")}`;
}

/**
 * OpenAI's "ft:base:suffix:id" with dashes: a colon separates base from adapter in a request's model, and a slash
 * would begin a route below an adapter's id.
 */
export function resultIdOf(baseName: string, name: string): string {
  const plain = (text: string, length: number) =>
    text
      .replaceAll(/[^A-Za-z0-9._-]+/g, "-")
      .replaceAll(/\.{2,}/g, ".")
      .slice(0, length);
  return `ft-${plain(baseName, 32)}-${plain(name, 64)}-${randomBytes(4).toString("hex")}`; // of at most 109
}

export function checkpointIdOf(resultId: string, step: number): string {
  return `${resultId}-ckpt-step-${step}`; // of at most 128, up to 8 digits
}
