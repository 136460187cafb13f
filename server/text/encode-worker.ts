// A worker thread with a tokenizer and a template of its own: encodes the long texts and conversations of one model
// directory, and decodes long lists of its token ids, one after another.

import { parentPort, workerData } from "node:worker_threads";
import { RequestError } from "../errors.ts";
import { loadTextParts } from "./load-text.ts";
import { type ChatText, decodeHere, encodeHere } from "./text-model.ts";

export type EncodeJob = {
  readonly source: string | ChatText;
  readonly addSpecialTokens: boolean;
  readonly maxTokens: number | undefined;
};

export type DecodeJob = { readonly tokenIds: readonly number[] };

export type TextJob = { readonly id: number } & (EncodeJob | DecodeJob);

/** What is wrong is the text's fault; anything else ends the thread. */
export type TextResult =
  | { readonly id: number; readonly result: number[] | string }
  | { readonly id: number; readonly refusal: Pick<RequestError, "code" | "message" | "param"> };

const parts = await loadTextParts(workerData as string);
if (!parentPort) throw new Error("this module is a worker's entry");
const port = parentPort;

port.on("message", (job: TextJob) => port.postMessage(answerTo(job)));

function answerTo({ id, ...job }: TextJob): TextResult {
  try {
    const result = "tokenIds" in job ? decodeHere(job.tokenIds, parts) : encodeHere(job.source, parts, job);
    return { id, result };
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    const { code, message, param } = error;
    return { id, refusal: { code, message, param } };
  }
}
