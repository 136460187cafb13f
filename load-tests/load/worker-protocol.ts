// The language between the load generator and its worker processes.

import type { RequestRecord } from "./request-record.ts";
import type { RequestShape } from "./send-request.ts";
import type { Workload } from "./workload.ts";

export type WorkerJob = {
  readonly url: string;
  readonly shape: RequestShape;
  readonly workload: Workload;
  readonly worker: number; // this one, of `workers`
  readonly workers: number;
  readonly drainMs: number; // how long after the workload's end open requests may go on
};

export type ToWorker =
  | { readonly type: "prepare"; readonly job: WorkerJob }
  /** The phase's clock is zero at this Unix time. */
  | { readonly type: "start"; readonly startUnixMs: number };

export type FromWorker =
  | { readonly type: "ready" }
  | { readonly type: "progress"; readonly progress: Progress; readonly records: readonly RequestRecord[] }
  | { readonly type: "done"; readonly health: WorkerHealth };

/** Counts since the phase's start. */
export type Progress = { readonly sent: number; readonly open: number; readonly chunks: number };

export type WorkerHealth = {
  readonly eventLoopDelayP99Ms: number;
  readonly cpuShare: number; // of one core, over the phase
};
