// Which planned jobs are in the engine, and who is next: the oldest job of a tenant that has the fewest there. It waits
// until there is memory for it, and nobody passes it: what is in the engine has its memory, its examples' too.

import type { PlannedJob } from "./job-record.ts";
import type { JobRun } from "./job-run.ts";

export type JobLineOptions = {
  readonly memoryBytes: number; // of all jobs together
  readonly mostAtOnce?: number; // in the engine; others wait here
  readonly mostOfTenant?: number; // of those, so that others find a place at once
  readonly start: (job: PlannedJob) => { readonly run: JobRun; readonly ended: Promise<void> };
};

type Place = {
  readonly run: JobRun;
  readonly tenantId: string;
  readonly memoryBytes: number;
  readonly ended: Promise<void>;
};

export class JobLine {
  readonly #options: JobLineOptions;
  readonly #running = new Map<string, Place>();
  readonly #waiting: PlannedJob[] = []; // oldest first
  #isClosed = false;

  constructor(options: JobLineOptions) {
    this.#options = options;
  }

  add(job: PlannedJob): void {
    this.#waiting.push(job);
    this.#admit();
  }

  /** The run of a job that is in the engine; one that waits leaves the line. */
  takeOut(id: string): Place | undefined {
    const waitingAt = this.#waiting.findIndex((job) => job.id === id);
    if (waitingAt >= 0) this.#waiting.splice(waitingAt, 1);
    return this.#running.get(id);
  }

  running(id: string): JobRun | undefined {
    return this.#running.get(id)?.run;
  }

  /** Nobody is next any more. @returns who is in the engine */
  close(): readonly Place[] {
    this.#isClosed = true;
    this.#waiting.length = 0;
    return [...this.#running.values()];
  }

  #admit(): void {
    const { mostAtOnce = 16, mostOfTenant = 4 } = this.#options;
    while (!this.#isClosed && this.#running.size < mostAtOnce) {
      const counts = Map.groupBy(this.#running.values(), ({ tenantId }) => tenantId);
      const countOf = ({ tenant }: PlannedJob) => counts.get(tenant.id)?.length ?? 0;
      const candidates = this.#waiting.filter((job) => countOf(job) < mostOfTenant);
      const fewest = candidates.reduce((least, job) => Math.min(least, countOf(job)), Infinity);
      const next = candidates.find((job) => countOf(job) === fewest);
      if (next === undefined || !this.#hasMemoryFor(next)) return;
      this.#waiting.splice(this.#waiting.indexOf(next), 1);
      this.#start(next);
    }
  }

  /** One that never fits takes none: its run says so. */
  #hasMemoryFor({ plan }: PlannedJob): boolean {
    const limit = this.#options.memoryBytes;
    const taken = [...this.#running.values()].reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
    return plan.memoryBytes > limit || taken + plan.memoryBytes <= limit;
  }

  #start(job: PlannedJob): void {
    const { id, tenant, plan } = job;
    const memoryBytes = plan.memoryBytes > this.#options.memoryBytes ? 0 : plan.memoryBytes;
    const { run, ended } = this.#options.start(job);
    const left = ended.then(() => {
      this.#running.delete(id);
      this.#admit();
    });
    this.#running.set(id, { run, tenantId: tenant.id, memoryBytes, ended: left });
  }
}
