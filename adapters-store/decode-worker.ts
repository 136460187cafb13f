// A thread of decode-pool.ts: one job in, one answer out.

import { parentPort } from "node:worker_threads";
import { adapterBuffers } from "../kernels/adapter.ts";
import { CotenantError } from "../kernels/errors.ts";
import { type JobInput, type JobKind, type JobOutput, poolJobs } from "./decode-jobs.ts";

export type WorkerRequest = {
  readonly [Kind in JobKind]: { readonly kind: Kind; readonly job: JobInput<Kind> };
}[JobKind];

export type WorkerAnswer =
  | { readonly type: "done"; readonly result: JobOutput<JobKind> }
  | { readonly type: "refused"; readonly code: string; readonly message: string }
  | { readonly type: "failed"; readonly error: unknown };

parentPort?.on("message", (request: WorkerRequest) => {
  const answer = work(request);
  parentPort?.postMessage(answer, answer.type === "done" ? buffersOf(answer.result) : []);
});

function work({ kind, job }: WorkerRequest): WorkerAnswer {
  try {
    const run = poolJobs[kind] as (input: typeof job) => JobOutput<JobKind>; // WorkerRequest pairs the two
    return { type: "done", result: run(job) };
  } catch (error) {
    if (error instanceof CotenantError) return { type: "refused", code: error.code, message: error.message };
    return { type: "failed", error };
  }
}

function buffersOf(result: JobOutput<JobKind>): ArrayBuffer[] {
  if ("adapter" in result) return adapterBuffers(result.adapter);
  return "container" in result ? [result.container.buffer] : [];
}
