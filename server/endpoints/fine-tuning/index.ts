// The routes of finetuning jobs. Those below an id stand before the id's own, which would take them for a part of it.

import type { Endpoint } from "../endpoint.ts";
import { cancelJob, pauseJob, resumeJob } from "./change-state.ts";
import { jobCheckpoints } from "./checkpoints.ts";
import { createJob } from "./create.ts";
import { jobEvents } from "./events.ts";
import { jobHistory } from "./history.ts";
import { deleteLedger, jobLedger } from "./ledger.ts";
import { jobPlot } from "./plot.ts";
import { getJob, listJobs } from "./read.ts";

export const fineTuningEndpoints = {
  createJob,
  listJobs,
  cancelJob,
  pauseJob,
  resumeJob,
  jobEvents,
  jobCheckpoints,
  jobHistory,
  jobLedger,
  deleteLedger,
  jobPlot,
  getJob,
} as const satisfies Record<string, Endpoint>;
