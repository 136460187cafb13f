// Writes down what the engine tells of a job: its steps, its checkpoints with the adapters that they are, its end.
// Knows not what becomes of a job that is stopped or fails.

import type { JobCheckpoint, JobEvent } from "../../finetuning/job.ts";
import type { DecodedAdapter } from "../../kernels/adapter.ts";
import type { JobMetrics } from "../metrics/job-metrics.ts";
import type { JobCheckpoints } from "./job-checkpoints.ts";
import { failureOf } from "./job-failure.ts";
import { checkpointMetrics, stepNews, validationNews } from "./job-news.ts";
import { info, type PlannedJob, plannedJob, transition } from "./job-record.ts";
import type { JobStore } from "./job-store.ts";
import type { CheckpointPublisher } from "./publish-checkpoint.ts";
import type { SeedLedgers } from "./seed-ledgers.ts";
import { newFileId } from "./stored-file.ts";

export type JobRecorderOptions = {
  readonly store: JobStore;
  readonly checkpoints: JobCheckpoints;
  readonly publisher: Pick<CheckpointPublisher, "publish">;
  readonly ledgers: Pick<SeedLedgers, "keep">;
  /** Keeps a file of all steps, under the id that the job has for it. Once more is the same as once. */
  readonly keepSteps: (job: PlannedJob) => Promise<void>;
  readonly metrics: JobMetrics;
};

type StepEvent = Extract<JobEvent, { type: "step" }>;
type ValidationEvent = Extract<JobEvent, { type: "validation" }>;

export class JobRecorder {
  readonly #id: string;
  readonly #options: JobRecorderOptions;
  #knownStep = 0; // steps up to here were told before
  #firstMs = 0; // when the engine began with it, and after how many steps
  #firstStep = 0;
  #step: StepEvent | null = null;
  #validation: ValidationEvent | null = null;

  constructor(id: string, options: JobRecorderOptions) {
    this.#id = id;
    this.#options = options;
  }

  /** Unix time in milliseconds; null before it can be told. */
  get estimatedFinishMs(): number | null {
    const { steps } = this.#job;
    const done = (this.#step?.step ?? 0) - this.#firstStep;
    if (steps === null || done <= 0) return null;
    return Date.now() + ((Date.now() - this.#firstMs) / done) * (steps - this.#firstStep - done);
  }

  /** To be called before the engine begins with the job, again. */
  begin(): void {
    this.#knownStep = this.#options.store.history.lastStep(this.#id);
  }

  started(event: Extract<JobEvent, { type: "started" }>, fromStep: number): void {
    const { steps, parameters } = event;
    this.#firstMs = Date.now();
    this.#firstStep = fromStep;
    const job = this.#job;
    const running = job.status === "queued" ? transition(job, "running") : job;
    const message =
      fromStep === 0
        ? `Training of ${parameters} numbers in ${steps} steps has begun`
        : `Training goes on from step ${fromStep} of ${steps}`;
    this.#options.store.save({ ...running, steps }, { news: [info(message)] });
  }

  step(event: StepEvent): void {
    const { store, metrics } = this.#options;
    this.#step = event;
    metrics.observeLoss(this.#id, event.loss);
    if (event.step <= this.#knownStep) return;
    store.history.addStep(this.#id, { ...event, trainLoss: event.loss, trainMetrics: event.metrics });
    store.addNews(this.#id, stepNews(event, this.#job.steps));
  }

  validation(event: ValidationEvent): void {
    const { store } = this.#options;
    this.#validation = event;
    if (!store.history.addValidation(this.#id, event)) return;
    store.addNews(this.#id, validationNews(event, this.#job.steps));
  }

  /** @param isAsked whether its owner paused the job here: else only regular checkpoints are published */
  async checkpoint(checkpoint: JobCheckpoint, adapter: DecodedAdapter, isAsked: boolean): Promise<void> {
    const { store, ledgers, metrics } = this.#options;
    const { step } = checkpoint;
    const startedMs = performance.now();
    try {
      await ledgers.keep(this.#job, checkpoint); // before anybody is told of the checkpoint
      if (isAsked || this.#isRegular(step)) await this.#publish(step, adapter);
    } catch (error) {
      // The end is published by whoever goes on from there, and a pause need not be; any other is made again.
      if (step === this.#job.steps || !this.#isRegular(step)) await this.#write(checkpoint);
      throw error;
    }
    const sizeBytes = await this.#write(checkpoint);
    metrics.observeCheckpoint({ seconds: (performance.now() - startedMs) / 1000, sizeBytes });
    if (this.#job.engineDeaths > 0) store.save({ ...this.#job, engineDeaths: 0 });
  }

  /**
   * The file comes last: a server that is killed before goes on from the former one, and tells and publishes the same
   * again. @returns its bytes
   */
  async #write(checkpoint: JobCheckpoint): Promise<number> {
    const { store, checkpoints } = this.#options;
    store.flush();
    await store.synced();
    return await checkpoints.write(this.#id, checkpoint);
  }

  /** The file of its steps is there before the job says so: a server that is killed between does the same again. */
  async finished(): Promise<void> {
    await this.#options.keepSteps(this.#job);
    const news = [info("The job has successfully completed")];
    this.#options.store.save(transition(this.#job, "succeeded"), { news });
  }

  #isRegular(step: number): boolean {
    const { steps, plan } = this.#job;
    return step === steps || step % plan.spec.checkpointSteps === 0;
  }

  async #publish(step: number, adapter: DecodedAdapter): Promise<void> {
    const { store, publisher } = this.#options;
    const isResult = step === this.#job.steps;
    if (step === 0) return;
    const metrics = checkpointMetrics(step, this.#step, this.#validation);
    const known = store.checkpoint(this.#id, step);
    if (known !== undefined) {
      // A pause may have published it before it was validated.
      store.save(this.#job, { checkpoint: { ...known, metrics: { ...known.metrics, ...metrics } } });
      return;
    }
    let published: { readonly id: string; readonly version: string };
    try {
      published = await publisher.publish(this.#job, { adapter, step, isResult });
    } catch (error) {
      const { remedy, problem, isExpected } = failureOf(error);
      if (isResult || !isExpected || remedy === "retry") throw error;
      const message = `The checkpoint of step ${step} was not published: ${problem.message}`;
      store.save(this.#job, { news: [{ level: "warn", type: "message", message, data: null }] });
      return;
    }
    const row = {
      step,
      createdAtMs: Date.now(),
      adapterId: published.id,
      version: published.version,
      metrics,
    };
    const message = isResult
      ? `New fine-tuned model created: ${published.id}`
      : `Checkpoint created at step ${step}: ${published.id}`;
    const job = this.#job;
    const result = { resultVersion: published.version, resultFile: newFileId() };
    store.save(isResult ? { ...job, ...result } : job, { checkpoint: row, news: [info(message)] });
  }

  get #job(): PlannedJob {
    return plannedJob(this.#options.store.get(this.#id)!);
  }
}
