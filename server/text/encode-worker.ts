// A worker thread with a tokenizer and a template of its own: encodes the long texts and conversations of one model
// directory, one after another.

import { parentPort, workerData } from "node:worker_threads";
import { RequestError } from "../errors.ts";
import { loadTextParts } from "./load-text.ts";
import { type ChatText, encodeHere } from "./text-model.ts";

export type EncodeJob = {
  readonly id: number;
  readonly source: string | ChatText;
  readonly addSpecialTokens: boolean;
  readonly maxTokens: number | undefined;
};

/** What is wrong is the text's fault; anything else ends the thread. */
export type EncodeResult =
  | { readonly id: number; readonly tokenIds: number[] }
  | { readonly id: number; readonly refusal: Pick<RequestError, "code" | "message" | "param"> };

const parts = await loadTextParts(workerData as string);
if (!parentPort) throw new Error("this module is a worker's entry");
const port = parentPort;

port.on("message", (job: EncodeJob) => port.postMessage(resultOf(job)));

function resultOf({ id, source, ...options }: EncodeJob): EncodeResult {
  try {
    return { id, tokenIds: encodeHere(source, parts, options) };
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    const { code, message, param } = error;
    return { id, refusal: { code, message, param } };
  }
}
