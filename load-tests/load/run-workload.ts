// Runs one workload in worker processes, so that reading streams never waits for another stream's work, and says
// when the client was too slow all the same.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { RequestRecord } from "./request-record.ts";
import { Samples } from "./samples.ts";
import { measuringWindow } from "./summary.ts";
import type { FromWorker, Progress, ToWorker, WorkerHealth, WorkerJob } from "./worker-protocol.ts";

export type WorkloadRun = {
  readonly records: readonly RequestRecord[];
  readonly client: ClientHealth;
};

/** Hears of records as they come. */
export type OnProgress = (progress: Progress, records: readonly RequestRecord[]) => void;

/** Whether the figures are the server's; `bottleneck` says why not. */
export type ClientHealth = {
  readonly workers: number;
  readonly eventLoopDelayP99Ms: number; // the worst worker's
  readonly cpuShare: number; // the worst worker's, of one core
  readonly sendLagP99Ms: number;
  readonly bottleneck: string | null;
};

/** Beyond these the client's own waiting is no longer small beside what it measures. */
export const clientBounds = { eventLoopDelayP99Ms: 25, sendLagP99Ms: 25, cpuShare: 0.85 };

const leadMs = 200; // between the start message and the phase's zero

export async function runWorkload(
  job: Omit<WorkerJob, "worker">,
  onProgress: OnProgress,
): Promise<WorkloadRun> {
  const workers = Array.from({ length: job.workers }, (_, worker) => new Worker({ ...job, worker }));
  try {
    await Promise.all(workers.map((worker) => worker.ready));
    const startUnixMs = Date.now() + leadMs;
    const records: RequestRecord[] = [];
    const report = (batch: readonly RequestRecord[]) => {
      for (const record of batch) records.push(record);
      onProgress(total(workers.map(({ progress }) => progress)), batch);
    };
    const health = await Promise.all(workers.map((worker) => worker.run(startUnixMs, report)));
    const { fromMs } = measuringWindow(job.workload.durationMs);
    const measured = records.filter(({ dueMs }) => dueMs >= fromMs); // the first ones wait for connections
    return { records, client: judgeClient(measured, health) };
  } finally {
    for (const worker of workers) worker.stop();
  }
}

export function judgeClient(
  records: readonly RequestRecord[],
  workers: readonly WorkerHealth[],
): ClientHealth {
  const lag = new Samples();
  for (const { dueMs, sentMs } of records) lag.add(sentMs - dueMs);
  const measured = {
    eventLoopDelayP99Ms: Math.max(...workers.map((worker) => worker.eventLoopDelayP99Ms)),
    sendLagP99Ms: lag.count === 0 ? 0 : lag.quantile(0.99),
    cpuShare: Math.max(...workers.map((worker) => worker.cpuShare)),
  };
  const over = (Object.keys(clientBounds) as (keyof typeof clientBounds)[])
    .filter((name) => measured[name] > clientBounds[name])
    .map((name) => `${name} ${measured[name].toPrecision(3)} is over ${clientBounds[name]}`);
  return { workers: workers.length, ...measured, bottleneck: over.length === 0 ? null : over.join(", ") };
}

function total(all: readonly Progress[]): Progress {
  const sum = (name: keyof Progress) => all.reduce((so, progress) => so + progress[name], 0);
  return { sent: sum("sent"), open: sum("open"), chunks: sum("chunks") };
}

class Worker {
  progress: Progress = { sent: 0, open: 0, chunks: 0 };
  readonly ready: Promise<void>;
  readonly #child: ChildProcess;
  readonly #over: Promise<never>;

  constructor(job: WorkerJob) {
    const script = fileURLToPath(new URL("./worker.ts", import.meta.url));
    this.#child = fork(script, { serialization: "advanced", execArgv: [] });
    this.#over = once(this.#child, "exit").then(([status]) => {
      throw new Error(`worker ${job.worker} of the load generator ended early with status ${status}`);
    });
    this.#over.catch(() => undefined); // races below report it; after them it is expected
    this.#post({ type: "prepare", job });
    this.ready = Promise.race([once(this.#child, "message").then(() => undefined), this.#over]);
  }

  run(startUnixMs: number, report: (records: readonly RequestRecord[]) => void): Promise<WorkerHealth> {
    const done = new Promise<WorkerHealth>((resolve) => {
      this.#child.on("message", (message: FromWorker) => {
        if (message.type === "done") resolve(message.health);
        if (message.type !== "progress") return;
        this.progress = message.progress;
        report(message.records);
      });
    });
    this.#post({ type: "start", startUnixMs });
    return Promise.race([done, this.#over]);
  }

  stop(): void {
    this.#child.kill();
  }

  #post(message: ToWorker): void {
    this.#child.send(message);
  }
}
