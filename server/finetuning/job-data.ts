// What a job computes with: its files as tokens, and the adapter that it continues from.

import { hashInTurns } from "../../adapters-store/hash-in-turns.ts";
import type { AdapterStore } from "../../adapters-store/store.ts";
import type { TrainingExamples } from "../../finetuning/job.ts";
import { CotenantError } from "../../kernels/errors.ts";
import type { ServedModel } from "../../scheduler/protocol.ts";
import { InvalidFieldError } from "../errors.ts";
import type { TextModel } from "../text/text-model.ts";
import { type EncodedFile, encodeExamples } from "./encode-examples.ts";
import type { EncodingTurns, GiveWay } from "./encoding-turns.ts";
import type { JobRecord } from "./job-record.ts";
import type { JobData } from "./job-run.ts";
import type { TrainingFile } from "./stored-file.ts";
import type { TrainingFiles } from "./training-files.ts";

export type JobDataSources = {
  readonly files: Pick<TrainingFiles, "get" | "pathOf">;
  readonly text: TextModel;
  readonly encodings: EncodingTurns;
  readonly model: Pick<ServedModel, "eosTokenIds" | "vocabSize" | "quantization">;
  readonly adapters: Pick<AdapterStore, "decode">;
};

/** Throws FileNotFoundError, and InvalidFieldError for a file of another purpose. */
export function trainingFileOf(files: Pick<TrainingFiles, "get">, owner: string, id: string): TrainingFile {
  const file = files.get(owner, id);
  if (file.purpose === "fine-tune") return file;
  throw new InvalidFieldError("", `${id} is of purpose ${file.purpose}; upload examples as fine-tune`);
}

/** How a file becomes tokens. */
export type JobEncoding = Pick<JobRecord, "maxTokens" | "overLength" | "trainOnPrompt">;

/** Throws as encodeExamples does. */
export function encodeJobFile(
  file: TrainingFile,
  { files, text, model }: JobDataSources,
  options: JobEncoding & { readonly giveWay: GiveWay },
): Promise<EncodedFile> {
  return encodeExamples(files.pathOf(file), file.format, { ...options, text, model });
}

/**
 * Throws as encodeExamples, TrainingFiles.get and AdapterStore.decode do, and CotenantError `training_base_changed`
 * where the base has other weights than those that the job began on.
 */
export function loadJobData(sources: JobDataSources) {
  return async (job: JobRecord, signal: AbortSignal): Promise<JobData> => {
    const { quantization } = sources.model;
    if (job.quantization !== quantization) throw baseChanged(job.quantization, quantization);
    return await sources.encodings.run(job.tenant.id, signal, (giveWay) => readData(job, sources, giveWay));
  };
}

async function readData(job: JobRecord, sources: JobDataSources, giveWay: GiveWay): Promise<JobData> {
  const { maxTokens, overLength, trainOnPrompt, parent, tenant, trainingFile, validationFile } = job;
  const encode = async (id: string) => {
    const file = trainingFileOf(sources.files, tenant.id, id);
    const options = { maxTokens, overLength, trainOnPrompt, giveWay };
    return (await encodeJobFile(file, sources, options)).examples;
  };
  const training = await encode(trainingFile);
  const validation = validationFile === null ? null : await encode(validationFile);
  const from = parent === null ? null : await sources.adapters.decode(parent.version);
  return { training, validation, from, examplesHash: await hashExamples(training, validation) };
}

function baseChanged(before: string, now: string): CotenantError {
  return new CotenantError(
    "training_base_changed",
    `the job began on the base with --quantize ${before} and the server now has --quantize ${now}; resume it once the operator has started the server with the former`,
  );
}

/** Of all that the files were encoded to. */
export async function hashExamples(
  training: TrainingExamples,
  validation: TrainingExamples | null,
): Promise<string> {
  const sets = validation === null ? [training] : [training, validation];
  const arrays = sets.flatMap(({ tokenIds, weights, ends }) => [ends, tokenIds, weights]);
  const parts = arrays.flatMap((array) => {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    return [Buffer.from(`${array.length} `), bytes];
  });
  return (await hashInTurns(parts)).toString("hex");
}
