// Runs finetuning jobs unit by unit: whose unit comes next (fair between tenants, and between a tenant's jobs), which
// jobs have memory, and the kernel that they share. A job whose checkpoint nobody has taken yet has no turn: checkpoints
// are not made faster than they are kept. Knows no requests and not when a unit may run.

import { CotenantError } from "../kernels/errors.ts";
import type { SpareMemory } from "../kernels/training/training-kernel.ts";
import type { TrainingUnit } from "../kernels/training/training-pass.ts";
import type { JobEvent, JobProblem, JobStart } from "./job.ts";
import { type MemoryClaim, nextForMemory } from "./memory-turns.ts";
import { ServedTime } from "./served-time.ts";
import { spareMemory } from "./spare-memory.ts";
import type { JobMemory } from "./training-memory.ts";

/** What the trainer needs of a TrainingJob. */
export type RunnableJob = {
  units(): Generator<TrainingUnit, void, void>;
  /** In place of what is left of `units`. Ends after reporting what has to be kept, and `paused`. */
  pause(): Generator<TrainingUnit, void, void>;
};

/** What the trainer needs of a TrainingKernel. */
export type SharedKernel = {
  readonly keptBytesPerToken: number; // of a pass, where nothing is recomputed
  spend(memory: SpareMemory): void;
  close(): Promise<void>;
};

export type Report = (event: JobEvent) => void;

export type TrainerOptions<Kernel extends SharedKernel> = {
  readonly memoryBytes: number; // of all jobs together
  readonly memoryOf: (job: JobStart) => Pick<JobMemory, "bytes" | "backward">;
  readonly openKernel: () => Promise<Kernel>;
  readonly openJob: (job: JobStart, context: { kernel: Kernel; report: Report }) => RunnableJob;
};

export type TrainerUnit = {
  readonly jobId: string;
  readonly tenantId: string;
  readonly kind: string; // the unit's sort; "open" is a job's first one, before it has any of its own
  readonly tokens: number;
  readonly isPausing: boolean; // its job is to pause, for which somebody waits
  /** To be called once; nothing else may be called until it has ended. Never throws: a failure is its job's. */
  readonly run: () => Promise<void>;
};

export type TrainerStats = {
  readonly jobs: number; // that have memory
  readonly waitingJobs: number;
  readonly memoryBytes: number; // that the jobs may come to use, without what is spent on speed
};

type Entry = {
  readonly start: JobStart;
  readonly report: Report;
  readonly memory: Pick<JobMemory, "bytes" | "backward">;
  opened: { readonly job: RunnableJob; readonly units: Generator<TrainingUnit, void, void> } | null;
  isPausing: boolean;
  unit: TrainingUnit | null; // the next one
  keptBytes: number; // that its pass under way may hold
  untaken: number; // checkpoints that were reported and not yet taken
  overtaken: number; // how many jobs got memory first while this one was due and did not fit
};

export class Trainer<Kernel extends SharedKernel = SharedKernel> {
  readonly #options: TrainerOptions<Kernel>;
  readonly #running = new Map<string, Entry>();
  readonly #waiting = new Map<string, Entry>(); // for memory, in the order in which they came
  readonly #served = new ServedTime(); // of those that run
  #kernel: Kernel | null = null;
  #spare: SpareMemory = { keptBytes: 0, widenedBytes: 0 };
  #closing: Promise<void> = Promise.resolve(); // of former kernels

  constructor(options: TrainerOptions<Kernel>) {
    this.#options = options;
  }

  /** The job's events go to `report`, the last of them `finished`, `paused` or `failed`, unless it is dropped. */
  start(start: JobStart, report: Report): void {
    if (this.#running.has(start.id) || this.#waiting.has(start.id)) {
      return report(failed("duplicate_job", `job ${start.id} is already running; give each its own id`));
    }
    const { memoryBytes, memoryOf } = this.#options;
    try {
      const memory = memoryOf(start);
      if (memory.bytes > memoryBytes) return report(exceedsMemory(memory.bytes, memoryBytes));
      const own = { opened: null, isPausing: false, unit: null, keptBytes: 0, untaken: 0, overtaken: 0 };
      this.#waiting.set(start.id, { start, report, memory, ...own });
    } catch (error) {
      return report(failureOf(error));
    }
    this.#admit();
  }

  /** A job that has not begun has nothing to keep: it reports `paused` alone. Unknown ids have ended before. */
  pause(id: string): void {
    const entry = this.#running.get(id) ?? this.#waiting.get(id);
    if (entry === undefined || entry.isPausing) return;
    let isOver = true;
    try {
      if (entry.opened === null) entry.report({ type: "paused", reason: null });
      else isOver = !this.#beginPause(entry, entry.opened);
    } catch (error) {
      entry.report(failureOf(error));
    }
    if (isOver) this.#leave(entry);
    else this.#admit(); // the pass under way is given up, and its memory
  }

  /** Without a last event. */
  drop(id: string): void {
    const entry = this.#running.get(id) ?? this.#waiting.get(id);
    if (entry !== undefined) this.#leave(entry);
  }

  /** One of the job's checkpoints was taken. Unknown ids have ended before. */
  taken(id: string): void {
    const entry = this.#running.get(id);
    if (entry === undefined || entry.untaken === 0) return;
    entry.untaken--;
    if (entry.untaken === 0) this.#served.wait(entry.start);
  }

  /** The next unit of whoever is to pause, or was served least; the same one until it has run. Null where nobody has a turn. */
  next(): TrainerUnit | null {
    let least: Entry | null = null;
    for (const entry of this.#running.values()) {
      if (entry.untaken > 0) continue;
      if (least === null || this.#isBefore(entry, least)) least = entry;
    }
    if (least === null) return null;
    const entry = least;
    const { kind = "open", sort = kind, tokens = 0 } = entry.unit ?? {};
    const { id: jobId, tenant } = entry.start;
    const { isPausing } = entry;
    return { jobId, tenantId: tenant.id, kind: sort, tokens, isPausing, run: () => this.#run(entry) };
  }

  #isBefore(one: Entry, other: Entry): boolean {
    if (one.isPausing !== other.isPausing) return one.isPausing;
    return this.#served.isServedLess(one.start, other.start);
  }

  stats(): TrainerStats {
    const memoryBytes = sum([...this.#running.values()].map(({ memory }) => memory.bytes));
    return { jobs: this.#running.size, waitingJobs: this.#waiting.size, memoryBytes };
  }

  /** Nobody hears of the jobs again. */
  async close(): Promise<void> {
    for (const entry of [...this.#waiting.values(), ...this.#running.values()]) this.#leave(entry);
    await this.#closing;
  }

  async #run(entry: Entry): Promise<void> {
    const startMs = performance.now();
    let isOver = true;
    try {
      if (entry.opened === null) await this.#open(entry);
      else await entry.unit!.run();
      isOver = !this.#advance(entry);
    } catch (error) {
      entry.report(failureOf(error));
    }
    this.#served.charge(entry.start, performance.now() - startMs);
    if (isOver) this.#leave(entry);
    else this.#admit(); // a pass may have ended that held memory
  }

  async #open(entry: Entry): Promise<void> {
    await this.#closing;
    this.#kernel ??= await this.#options.openKernel();
    this.#divide([...this.#running.values()]);
    const { start } = entry;
    const report = (event: JobEvent) => this.#report(entry, event);
    const job = this.#options.openJob(start, { kernel: this.#kernel, report });
    entry.opened = { job, units: job.units() };
  }

  /** False where there is nothing to be done for it. */
  #beginPause(entry: Entry, { job, units }: NonNullable<Entry["opened"]>): boolean {
    units.return();
    entry.opened = { job, units: job.pause() };
    entry.isPausing = true;
    entry.keptBytes = 0;
    return this.#advance(entry);
  }

  /** A job with a checkpoint to be taken does not wait for turns, and earns no credit meanwhile. */
  #report(entry: Entry, event: JobEvent): void {
    if (event.type === "checkpoint") {
      if (entry.untaken === 0) this.#served.stopWaiting(entry.start);
      entry.untaken++;
    }
    entry.report(event);
  }

  /** False where there are no more. A pass begins with `forward`, and holds what the kernel then had to spend. */
  #advance(entry: Entry): boolean {
    const before = entry.unit?.kind;
    const { value, done } = entry.opened!.units.next();
    if (done) return false;
    entry.unit = value;
    if (value.kind !== before && value.kind === "forward") entry.keptBytes = this.#spare.keptBytes;
    return true;
  }

  /** Memory that is spent on speed is given back for a job. */
  #admit(): void {
    for (;;) {
      const running = [...this.#running.values()];
      const freeBytes = this.#options.memoryBytes - sum(running.map(({ memory }) => memory.bytes));
      const next = nextForMemory([...this.#waiting.values()].map(claimOf), running.map(claimOf), freeBytes);
      if (next === null) return;
      const entry = this.#waiting.get(next.id)!;
      const jobs = [...running, entry];
      this.#divide(jobs);
      const held = sum(jobs.map(({ memory, keptBytes }) => memory.bytes + keptBytes));
      if (held + this.#spare.widenedBytes > this.#options.memoryBytes) return; // until those passes have ended
      this.#waiting.delete(next.id);
      for (const id of next.overtaken) this.#waiting.get(id)!.overtaken++;
      this.#running.set(next.id, entry);
      this.#served.wait(entry.start);
    }
  }

  #divide(jobs: readonly Entry[]): void {
    const bytesPerToken = this.#kernel?.keptBytesPerToken ?? 0;
    const needs = jobs.map(({ memory, start }) => ({
      ...memory,
      keepableBytes: start.spec.passTokens * bytesPerToken,
    }));
    this.#spare = spareMemory(this.#options.memoryBytes, needs);
    this.#kernel?.spend(this.#spare);
  }

  #leave(entry: Entry): void {
    const { id, tenant } = entry.start;
    this.#waiting.delete(id);
    if (this.#running.delete(id)) {
      entry.opened?.units.return();
      if (entry.untaken === 0) this.#served.stopWaiting(entry.start);
      const isLast = [...this.#running.values()].every(({ start }) => start.tenant.id !== tenant.id);
      this.#served.leave(entry.start, isLast);
    }
    this.#divide([...this.#running.values()]);
    this.#admit();
    if (this.#running.size > 0 || this.#kernel === null) return;
    const kernel = this.#kernel;
    this.#kernel = null;
    // A kernel that does not close is given up: the next one does not depend on it.
    this.#closing = this.#closing.then(() => kernel.close()).catch(() => undefined);
  }
}

function claimOf({ start: { id, tenant }, memory, overtaken }: Entry): MemoryClaim {
  return { id, tenant, bytes: memory.bytes, overtaken };
}

function failed(code: string, message: string): JobEvent & JobProblem {
  return { type: "failed", code, message };
}

function failureOf(error: unknown): JobEvent {
  if (error instanceof CotenantError) return failed(error.code, error.message);
  const reason = error instanceof Error ? error.message : String(error);
  return failed("training_failed", `the finetuning job failed: ${reason}`);
}

function exceedsMemory(bytes: number, memoryBytes: number): JobEvent {
  const message = `the finetuning job needs ${bytes} bytes, more than the ${memoryBytes} of --training-memory-bytes; lower its batch, pass or rank, or raise that limit`;
  return failed("training_memory_exceeded", message);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
