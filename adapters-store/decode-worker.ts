// A thread of decode-pool.ts: one job in, one answer out.

import { parentPort } from "node:worker_threads";
import { adapterBuffers } from "../kernels/adapter.ts";
import { CotenantError } from "../kernels/errors.ts";
import { type DecodeJob, type DecodeResult, decodeAdapter } from "./decode-adapter.ts";

/** What becomes of the decoded arrays: a check needs the verdict alone. */
export type WorkerRequest = { readonly job: DecodeJob; readonly wantsModules: boolean };

export type WorkerAnswer =
  | { readonly type: "decoded"; readonly result: DecodeResult }
  | { readonly type: "refused"; readonly code: string; readonly message: string }
  | { readonly type: "failed"; readonly error: unknown };

parentPort?.on("message", ({ job, wantsModules }: WorkerRequest) => {
  const answer = work(job, wantsModules);
  parentPort?.postMessage(answer, answer.type === "decoded" ? adapterBuffers(answer.result.adapter) : []);
});

function work(job: DecodeJob, wantsModules: boolean): WorkerAnswer {
  try {
    const result = decodeAdapter(job);
    return { type: "decoded", result: wantsModules ? result : { ...result, adapter: { modules: [] } } };
  } catch (error) {
    if (error instanceof CotenantError) return { type: "refused", code: error.code, message: error.message };
    return { type: "failed", error };
  }
}
