// From what a request asks for to a job's record: its model, files, method and hyperparameters, each checked before
// anything is made. Small files are validated right here; larger ones when the job is there. Knows no HTTP.

import { randomInt } from "node:crypto";
import type { JobMemory } from "../../finetuning/training-memory.ts";
import type { DecodedAdapter } from "../../kernels/adapter.ts";
import { AdapterError } from "../../kernels/errors.ts";
import { InvalidFieldError, ModelNotFoundError, RequestError } from "../errors.ts";
import type { ServedAdapter } from "../served-adapters.ts";
import type { Tenant } from "../tenancy/tenant.ts";
import type { GiveWay } from "./encoding-turns.ts";
import { trainingFileOf } from "./job-data.ts";
import { type Asked, checkHyperparameters, encodingOf, specOf } from "./job-hyperparameters.ts";
import { continuedMethod, type GivenMethod, methodOf } from "./job-method.ts";
import { fileFields, fittedJob, type PlanParts, planJob } from "./job-plan.ts";
import { type JobPlan, type JobRecord, newJobId, resultIdOf } from "./job-record.ts";
import { namingFields } from "./naming-fields.ts";

export type JobRequest = {
  readonly model: string;
  readonly trainingFile: string;
  readonly validationFile: string | null;
  readonly suffix: string | null;
  readonly seed: number | null;
  readonly metadata: Readonly<Record<string, string>> | null;
  readonly type: "supervised" | "dpo";
  readonly hyperparameters: Readonly<Record<string, unknown>>;
  readonly hyperparametersPath: string; // in the request
  readonly adapter: GivenMethod;
};

export type JobSurroundings = PlanParts & {
  readonly baseName: string;
  readonly tenant: Tenant;
  readonly adapter: (id: string) => Pick<ServedAdapter, "id" | "version"> | undefined;
  readonly signal: AbortSignal;
};

/** Of both files together: so many are encoded within a second or two, which a request may wait. */
const validatedAtOnceBytes = 2 ** 20;

/**
 * Throws RequestErrors that name the field, and CotenantError `encodings_too_many`. The record is not saved yet: what is
 * returned gives it once its files and its parent are looked up again, as that took a while. It throws RequestErrors, too,
 * and AdapterError `adapter_moved`; all is there as long as its caller does not await.
 */
export async function jobOf(request: JobRequest, surroundings: JobSurroundings): Promise<() => JobRecord> {
  const { sources, tenant, signal, model } = surroundings;
  if (model.untrainable !== null) throw new RequestError("training_unsupported", model.untrainable, "model");
  const parent = parentOf(request.model, surroundings);
  const asked = askedOf(request);
  checkPrecision(asked, model);
  const sizeBytes = checkFiles(request, surroundings);
  const draft = draftOf(request, { asked, parent }, surroundings);
  const isSmall = sizeBytes <= validatedAtOnceBytes;
  const checked = async (giveWay: GiveWay): Promise<JobRecord> => {
    const from = parent === null ? null : await sources.adapters.decode(parent.version);
    const { resultBytes } = leastMemory(draft, from, surroundings);
    const { targets } = model;
    const method =
      from === null
        ? asked.method
        : namingFields(() => continuedMethod(asked.method, request.adapter, { from, targets }));
    const job = { ...draft, resultBytes, asked: { ...asked, method } };
    const plan = isSmall ? await planJob(job, surroundings, giveWay) : null;
    return { ...job, ...(plan && queuedBy(plan)) };
  };
  const readsFiles = isSmall || parent !== null; // which takes memory, and is done in turn
  const job = await (readsFiles
    ? sources.encodings.request(tenant.id, signal, checked)
    : checked(async () => {}));
  return () => {
    checkFiles(request, surroundings);
    if (parentOf(request.model, surroundings)?.version === parent?.version) return job;
    const problem = `${request.model} was moved to another version meanwhile; send the request again`;
    throw new AdapterError("adapter_moved", problem);
  };
}

function draftOf(
  request: JobRequest,
  { asked, parent }: Pick<JobRecord, "asked" | "parent">,
  { tenant, model, baseName }: JobSurroundings,
): JobRecord {
  const { suffix, trainingFile, validationFile, metadata } = request;
  return {
    id: newJobId(),
    tenant,
    baseFingerprint: model.fingerprint,
    status: "validating_files",
    createdAtMs: Date.now(),
    finishedAtMs: null,
    model: request.model,
    parent,
    resultId: resultIdOf(baseName, suffix ?? tenant.id),
    suffix,
    trainingFile,
    validationFile,
    asked,
    ...encodingOf(asked.hyperparameters, model.maxContext),
    resultBytes: 0,
    quantization: model.quantization,
    metadata,
    plan: null,
    steps: null,
    resultVersion: null,
    resultFile: null,
    engineDeaths: 0,
    problem: null,
  };
}

function queuedBy(plan: JobPlan) {
  return { status: "queued", plan } as const;
}

/** Throws RequestError for one that the device has not. */
function checkPrecision(
  { hyperparameters: { precision }, path }: Asked,
  { trainingPrecisions, device }: PlanParts["model"],
): void {
  if (precision === undefined || trainingPrecisions.includes(precision)) return;
  const problem = `the base is on ${device}, which trains in ${trainingPrecisions.join(" and ")} alone; leave it out`;
  throw new RequestError("training_settings_invalid", problem, `${path}.precision`);
}

/** What even the shortest examples would take. Throws RequestErrors, also where the parent cannot be continued. */
function leastMemory(job: JobRecord, from: DecodedAdapter | null, parts: PlanParts): JobMemory {
  const one = { tokenIds: new Int32Array(2), weights: new Float32Array(2), ends: Int32Array.of(1, 2) };
  const { spec } = specOf(job.asked, 1);
  const { window_tokens } = job.asked.hyperparameters;
  const shortest = { spec, training: one, validation: null, from };
  return namingFields(() => fittedJob(shortest, window_tokens, parts).memory);
}

/** Throws FileNotFoundError, and InvalidFieldError for a file that the method cannot learn from. @returns their bytes */
function checkFiles(request: JobRequest, { sources, tenant }: JobSurroundings): number {
  const ids = { training_file: request.trainingFile, validation_file: request.validationFile };
  let sizeBytes = 0;
  for (const field of fileFields) {
    const id = ids[field];
    if (id === null) continue;
    const file = namingFields(() => trainingFileOf(sources.files, tenant.id, id), field);
    if ((request.type === "dpo") !== (file.format === "preference")) {
      const wanted = request.type === "dpo" ? "preference pairs" : "chat or completion examples";
      throw new InvalidFieldError(
        field,
        `${file.id} holds ${file.format} examples; the method ${request.type} needs ${wanted}`,
      );
    }
    sizeBytes += file.bytes;
  }
  return sizeBytes;
}

function parentOf(name: string, { baseName, adapter }: JobSurroundings): JobRecord["parent"] {
  if (name === baseName) return null;
  const found = adapter(name);
  if (found === undefined) throw new ModelNotFoundError(name, "model");
  return { id: found.id, version: found.version };
}

function askedOf({ type, hyperparameters, hyperparametersPath: path, adapter, seed }: JobRequest): Asked {
  const objective = type === "dpo" ? "dpo" : "cross-entropy";
  return namingFields(() => {
    const method = methodOf(adapter);
    return {
      objective,
      path,
      seed: seed ?? randomInt(2 ** 32),
      method,
      hyperparameters: checkHyperparameters(hyperparameters, { path, method: method.name, objective }),
    };
  });
}
