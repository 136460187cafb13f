// A worker thread that runs preparation jobs one at a time until its parent stops it.

import { openSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { openCheckpointWeights } from "../checkpoint/weights.ts";
import { CotenantError } from "../errors.ts";
import { type PrepareJob, runJob } from "./prepare-job.ts";

export type PrepareWorkerData = { readonly modelDirectory: string; readonly dataPath: string };
export type PrepareReply =
  | { readonly type: "done" }
  | { readonly type: "failed"; readonly code: string; readonly message: string };

const { modelDirectory, dataPath } = workerData as PrepareWorkerData;
const weights = openCheckpointWeights(modelDirectory);
const dataFile = openSync(dataPath, "r+");

parentPort!.on("message", (job: PrepareJob) => {
  parentPort!.postMessage(attempt(job));
});

function attempt(job: PrepareJob): PrepareReply {
  try {
    runJob(job, weights, dataFile);
    return { type: "done" };
  } catch (error) {
    const code = error instanceof CotenantError ? error.code : "preparation_failed";
    return { type: "failed", code, message: error instanceof Error ? error.message : String(error) };
  }
}
