// The finetuning jobs of one server: made, run, paused, gone on with and cancelled. Jobs that were not over when the
// last server ended go on by themselves. Everything a job needs (its files, the adapter that it continues from) stays
// as long as it is not over. A tenant's jobs go on whatever becomes of its keys. Knows no HTTP.

import { setTimeout as delay } from "node:timers/promises";
import { CotenantError } from "../../kernels/errors.ts";
import { RateLimitError } from "../tenancy/errors.ts";
import type { Tenant } from "../tenancy/tenant.ts";
import type { VersionHold } from "../version-uses.ts";
import { followNews, type NewsFrom } from "./follow-news.ts";
import { JobLine, type JobLineOptions } from "./job-line.ts";
import {
  info,
  isOver,
  isPlanned,
  type JobNewsEntry,
  type JobRecord,
  JobStateError,
  type PlannedJob,
  transition,
} from "./job-record.ts";
import { JobRun, type JobRunOptions } from "./job-run.ts";
import type { JobStore } from "./job-store.ts";
import { JobValidation, type JobValidationOptions } from "./job-validation.ts";
import type { SeedLedgers } from "./seed-ledgers.ts";
import { Suspects } from "./suspects.ts";

export type JobManagerOptions = Omit<JobRunOptions, "suspects"> &
  JobValidationOptions &
  Omit<JobLineOptions, "start"> & {
    /** Keeps a version's files until what it returns is called. */
    readonly hold: (version: string, hold: VersionHold) => () => void;
    /** Throws what shall refuse a job that takes at least so many bytes of the disk. */
    readonly assertRoom: (tenant: Tenant, sizeBytes: number) => void;
    readonly ledgers: Pick<SeedLedgers, "keep" | "container" | "remove">;
    readonly leastCloseMs?: number; // that checkpoints get when the server closes
    readonly suspects?: Suspects;
  };

type Validating = { readonly validation: JobValidation; readonly ended: Promise<void> };

const longestRetryMs = 60_000;

export class JobManager {
  readonly store: JobStore;
  readonly ledgers: Pick<SeedLedgers, "container" | "remove">;
  readonly #options: JobManagerOptions;
  readonly #line: JobLine;
  readonly #validating = new Map<string, Validating>();
  readonly #held = new Map<string, () => void>(); // by job: gives the parent's version back
  readonly #suspects: Suspects;
  readonly #closing = new AbortController();

  constructor(options: JobManagerOptions) {
    this.#options = options;
    this.store = options.store;
    this.ledgers = options.ledgers;
    this.#suspects = options.suspects ?? new Suspects();
    this.#line = new JobLine({ ...options, start: (job) => this.#run(job) });
  }

  /** What the last server left goes on. */
  async start(): Promise<void> {
    await this.#options.checkpoints.removeAllBut((id) => this.store.claims.isUnfinished(id));
    for (const job of this.store.unfinished()) {
      this.#hold(job);
      if (job.status !== "paused") this.#goOn(job);
    }
  }

  /**
   * Throws RateLimitError and QuotaExceededError where the tenant can have no further job, or no result of it, and
   * AdapterError `adapter_larger_than_cache`.
   */
  assertRoom(tenant: Tenant, sizeBytes = 0): void {
    this.#options.assertRoom(tenant, sizeBytes);
    const limit = tenant.quotas.jobs;
    const count = this.store.claims.unfinishedCount(tenant.id);
    if (limit === null || count < limit) return;
    throw new RateLimitError(
      `You have ${count} finetuning jobs that are not over, and your limit is ${limit}. Wait for one, or cancel one.`,
      null,
    );
  }

  /** The job is there for good when it resolves. Throws as `assertRoom`. */
  async create(job: JobRecord): Promise<JobRecord> {
    this.#closing.signal.throwIfAborted();
    this.assertRoom(job.tenant, job.resultBytes + (job.plan?.keptBytes ?? 0));
    const news = [info(`Created fine-tuning job: ${job.id}`)];
    if (!isPlanned(job)) news.push(info(`Validating training file: ${job.trainingFile}`)); // OpenAI's words
    this.store.save(job, { news });
    this.#hold(job);
    this.#goOn(job);
    await this.store.synced();
    return this.store.get(job.id)!;
  }

  /** Throws JobNotFoundError. */
  get(tenant: Pick<Tenant, "id">, id: string): JobRecord {
    const job = this.store.get(id);
    if (job?.tenant.id !== tenant.id) throw new JobNotFoundError(id);
    return job;
  }

  /** Unix time in milliseconds; null where it cannot be told. */
  estimatedFinishMs(id: string): number | null {
    return this.#line.running(id)?.estimatedFinishMs ?? null;
  }

  /** Keeps a checkpoint first. Throws JobNotFoundError and JobStateError. */
  async pause(tenant: Tenant, id: string): Promise<JobRecord> {
    const job = this.get(tenant, id);
    if (isOver(job) || job.status === "paused") throw new JobStateError("paused", job);
    await this.#stop(id, "pause");
    const stopped = this.get(tenant, id); // it may have ended meanwhile, or never begun
    if (!isOver(stopped) && stopped.status !== "paused") {
      this.store.save(transition(stopped, "paused"), { news: [info("The job is paused")] });
    }
    await this.store.synced();
    return this.get(tenant, id);
  }

  /** Throws JobNotFoundError and JobStateError. */
  async resume(tenant: Tenant, id: string): Promise<JobRecord> {
    this.#closing.signal.throwIfAborted();
    const job = this.get(tenant, id);
    if (job.status !== "paused") throw new JobStateError("resumed", job);
    const status = isPlanned(job) ? "queued" : "validating_files";
    const resumed = transition(job, status, { tenant });
    this.store.save(resumed, { news: [info("The job is resumed")] });
    this.#goOn(resumed);
    await this.store.synced();
    return this.get(tenant, id);
  }

  /** What was published stays. Throws JobNotFoundError and JobStateError. */
  async cancel(tenant: Tenant, id: string): Promise<JobRecord> {
    const job = this.get(tenant, id);
    this.store.save(transition(job, "cancelled"), { news: [info("The job was cancelled")] });
    await this.#stop(id, "cancel");
    this.#release(id);
    await this.store.synced();
    await this.#options.checkpoints.remove(id);
    return this.get(tenant, id);
  }

  /** Those behind the `after`th, and then as they come, until the job is over. Throws `server_closing`. */
  followNews(id: string, { after, signal }: NewsFrom): AsyncGenerator<JobNewsEntry> {
    return followNews(this.store, id, { after, signal: AbortSignal.any([signal, this.#closing.signal]) });
  }

  /**
   * Checkpoints what runs and leaves its state, so that the next server goes on; whoever is slower is dropped. No
   * limit is so short that steps are lost for nothing.
   */
  async close(limitMs: number): Promise<void> {
    this.#closing.abort(
      new CotenantError("server_closing", "the server is shutting down; send the request again"),
    );
    const runs = this.#line.close();
    const validations = [...this.#validating.values()];
    for (const { run } of runs) run.stop("close");
    for (const { validation } of validations) validation.stop();
    const ended = Promise.all([...runs, ...validations].map((each) => each.ended));
    const timer = new AbortController();
    const waitMs = Math.max(limitMs, this.#options.leastCloseMs ?? 5000);
    const late = delay(waitMs, undefined, { signal: timer.signal }).catch(() => {});
    await Promise.race([ended, late]);
    timer.abort();
    for (const { run } of runs) run.drop();
    await ended;
  }

  #goOn(job: JobRecord): void {
    if (isPlanned(job)) this.#line.add(job);
    else this.#validate(job);
  }

  #validate({ id }: JobRecord): void {
    const validation = new JobValidation(id, this.#options);
    const ended = this.#untilWritten(id, validation).then(() => {
      this.#validating.delete(id);
      const job = this.store.get(id)!;
      if (job.status === "queued" && isPlanned(job) && !this.#closing.signal.aborted) this.#line.add(job);
    });
    this.#validating.set(id, { validation, ended });
  }

  #run({ id }: PlannedJob) {
    const run = new JobRun(id, { ...this.#options, suspects: this.#suspects });
    return { run, ended: this.#untilWritten(id, run) };
  }

  /** Where what becomes of a job cannot be written down, it goes on until that can be. */
  async #untilWritten(id: string, work: Pick<JobRun, "run">): Promise<void> {
    const { logger, retryMs = 1000 } = this.#options;
    for (let waitMs = retryMs; ; waitMs = Math.min(2 * waitMs, longestRetryMs)) {
      try {
        await work.run();
        if (!this.store.claims.isUnfinished(id)) this.#release(id);
        return;
      } catch (error) {
        logger.error(
          { err: error, jobId: id },
          "a finetuning job's state was not written; it is tried again",
        );
      }
      await delay(waitMs, undefined, { signal: this.#closing.signal }).catch(() => {});
      if (this.#closing.signal.aborted) return;
    }
  }

  async #stop(id: string, stop: "cancel" | "pause"): Promise<void> {
    const validating = this.#validating.get(id);
    validating?.validation.stop();
    await validating?.ended; // it may be in the line then
    const place = this.#line.takeOut(id);
    place?.run.stop(stop);
    await place?.ended;
  }

  #hold({ id, parent, tenant }: JobRecord): void {
    if (parent === null) return;
    this.#held.set(id, this.#options.hold(parent.version, { tenantId: tenant.id, jobId: id }));
  }

  #release(id: string): void {
    this.#held.get(id)?.();
    this.#held.delete(id);
  }
}

/** Also where it is another tenant's. */
export class JobNotFoundError extends CotenantError {
  constructor(id: string) {
    super("job_not_found", `there is no finetuning job ${id}; GET /v1/fine_tuning/jobs lists yours`);
  }
}
