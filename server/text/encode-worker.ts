// A worker thread with a tokenizer of its own: encodes the long texts of one model directory, one after another.

import { parentPort, workerData } from "node:worker_threads";
import { UntokenizableTextError } from "../errors.ts";
import { loadTextParts } from "./load-text.ts";

export type EncodeJob = { readonly id: number; readonly text: string; readonly addSpecialTokens: boolean };
export type EncodeResult = { readonly id: number; readonly tokenIds: number[] | null }; // null = untokenizable

const { tokenizer } = await loadTextParts(workerData as string);
if (!tokenizer || !parentPort)
  throw new Error("this module is a worker's entry, for a model with a tokenizer");
const port = parentPort;

port.on("message", ({ id, text, addSpecialTokens }: EncodeJob) => {
  port.postMessage({ id, tokenIds: encode(text, addSpecialTokens) } satisfies EncodeResult);
});

function encode(text: string, addSpecialTokens: boolean): number[] | null {
  try {
    return tokenizer!.encode(text, { addSpecialTokens });
  } catch (error) {
    if (error instanceof UntokenizableTextError) return null;
    throw error;
  }
}
