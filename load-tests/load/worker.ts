// A worker process of the load generator: sends its share of one phase and reports every half second.

import { monitorEventLoopDelay } from "node:perf_hooks";
import type { RequestRecord } from "./request-record.ts";
import { Share } from "./send-share.ts";
import type { FromWorker, ToWorker, WorkerJob } from "./worker-protocol.ts";

const reportEveryMs = 500;
const delayResolutionMs = 5;

let job: WorkerJob | null = null;

process.on("message", (message: ToWorker) => {
  if (message.type === "prepare") {
    job = message.job;
    post({ type: "ready" });
  } else if (job !== null) void run(job, message.startUnixMs);
});
process.on("disconnect", () => process.exit(1)); // whoever asked for this is gone

async function run(work: WorkerJob, startUnixMs: number): Promise<void> {
  const startMs = performance.now() + startUnixMs - Date.now();
  const delay = monitorEventLoopDelay({ resolution: delayResolutionMs });
  let records: RequestRecord[] = [];
  const share = new Share(
    work,
    () => performance.now() - startMs,
    (record) => records.push(record),
  );
  const report = () => {
    post({ type: "progress", progress: share.progress, records });
    records = [];
  };
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  const timer = setInterval(report, reportEveryMs);
  delay.enable();
  await share.send();
  delay.disable();
  clearInterval(timer);
  report();
  const { user, system } = process.cpuUsage(cpu);
  const health = {
    // The monitor's samples hold its own interval.
    eventLoopDelayP99Ms: Math.max(0, delay.percentile(99) / 1e6 - delayResolutionMs),
    cpuShare: (user + system) / 1000 / (performance.now() - startedMs),
  };
  post({ type: "done", health });
}

function post(message: FromWorker): void {
  process.send!(message);
}
