// Which planned jobs are in the engine, as far as there is memory for them and their examples. Who is next is
// finetuning/memory-turns.ts' say, of the tenants with a free place.

import { type MemoryClaim, nextForMemory } from "../../finetuning/memory-turns.ts";
import type { PlannedJob } from "./job-record.ts";
import type { JobRun } from "./job-run.ts";

export type JobLineOptions = {
  readonly memoryBytes: number; // of all jobs together
  readonly sharedBytes?: number; // of those, what each job's plan counts and all have but once
  readonly mostAtOnce?: number; // in the engine; others wait here
  readonly mostOfTenant?: number; // of those, so that others find a place at once
  readonly start: (job: PlannedJob) => { readonly run: JobRun; readonly ended: Promise<void> };
};

type Waiting = { readonly job: PlannedJob; readonly claim: MemoryClaim };
type Place = { readonly run: JobRun; readonly claim: MemoryClaim; readonly ended: Promise<void> };

export class JobLine {
  readonly #options: JobLineOptions;
  readonly #running = new Map<string, Place>();
  #waiting: readonly Waiting[] = []; // oldest first
  #isClosed = false;

  constructor(options: JobLineOptions) {
    this.#options = options;
  }

  add(job: PlannedJob): void {
    const { id, tenant, plan } = job;
    const { memoryBytes, sharedBytes = 0 } = this.#options;
    const ownBytes = Math.max(0, plan.memoryBytes - sharedBytes); // the plan may be of another device
    const bytes = plan.memoryBytes > memoryBytes ? 0 : ownBytes; // one that never fits takes none: its run says so
    this.#waiting = [...this.#waiting, { job, claim: { id, tenant, bytes, overtaken: 0 } }];
    this.#admit();
  }

  /** The run of a job that is in the engine; one that waits leaves the line. */
  takeOut(id: string): Place | undefined {
    this.#waiting = this.#waiting.filter(({ job }) => job.id !== id);
    return this.#running.get(id);
  }

  running(id: string): JobRun | undefined {
    return this.#running.get(id)?.run;
  }

  /** Nobody is next any more. @returns who is in the engine */
  close(): readonly Place[] {
    this.#isClosed = true;
    this.#waiting = [];
    return [...this.#running.values()];
  }

  #admit(): void {
    const { memoryBytes, sharedBytes = 0, mostAtOnce = 16, mostOfTenant = 4 } = this.#options;
    while (!this.#isClosed && this.#running.size < mostAtOnce) {
      const running = [...this.#running.values()].map(({ claim }) => claim);
      const counts = Map.groupBy(running, ({ tenant }) => tenant.id);
      const hasPlace = ({ tenant }: MemoryClaim) => (counts.get(tenant.id)?.length ?? 0) < mostOfTenant;
      const due = this.#waiting.map(({ claim }) => claim).filter(hasPlace);
      const freeBytes = memoryBytes - sharedBytes - running.reduce((sum, { bytes }) => sum + bytes, 0);
      const next = nextForMemory(due, running, Math.max(0, freeBytes)); // for those that never fit
      if (next === null) return;
      const { job, claim } = this.#waiting.find((each) => each.job.id === next.id)!;
      this.#waiting = this.#waiting
        .filter((each) => each.job !== job)
        .map((each) => (next.overtaken.includes(each.job.id) ? overtaken(each) : each));
      this.#start(job, claim);
    }
  }

  #start(job: PlannedJob, claim: MemoryClaim): void {
    const { run, ended } = this.#options.start(job);
    const left = ended.then(() => {
      this.#running.delete(job.id);
      this.#admit();
    });
    this.#running.set(job.id, { run, claim, ended: left });
  }
}

function overtaken({ job, claim }: Waiting): Waiting {
  return { job, claim: { ...claim, overtaken: claim.overtaken + 1 } };
}
