// One job on its way through the engine: prepared, trained, its checkpoints published and kept, until it is over,
// paused, or the server closes. What interrupts it (the engine's death, storage that is away) it outlasts: it goes on
// from its last checkpoint. Knows no HTTP.

import { setTimeout as delay } from "node:timers/promises";
import type { JobCheckpoint, JobEvent, JobStart } from "../../finetuning/job.ts";
import { CotenantError } from "../../kernels/errors.ts";
import type { Engine } from "../../scheduler/engine.ts";
import type { Logger } from "../logger.ts";
import { failureOf, remedyOf } from "./job-failure.ts";
import {
  isOver,
  type JobNews,
  type JobRecord,
  type PlannedJob,
  plannedJob,
  type RecordedProblem,
  transition,
} from "./job-record.ts";
import { JobRecorder, type JobRecorderOptions } from "./job-recorder.ts";
import type { Suspects } from "./suspects.ts";

export type JobData = Pick<JobStart, "training" | "validation" | "from"> & { readonly examplesHash: string };

export type JobRunOptions = JobRecorderOptions & {
  readonly engine: Pick<Engine, "train" | "pauseTraining">;
  readonly memoryBytes: number; // of all jobs together
  /** What a job computes with, from its files and its parent. */
  readonly load: (job: PlannedJob, signal: AbortSignal) => Promise<JobData>;
  readonly suspects: Suspects; // of all runs
  readonly logger: Logger;
  readonly retryMs?: number; // before it goes on, at least
};

const mostDeaths = 3; // of engines in which a job was, one after another with no checkpoint between
const longestWaitMs = 60_000;

/** Why a run ends before its job does. */
type Stop = "cancel" | "close" | "pause";

export class JobRun {
  readonly id: string;
  readonly #options: JobRunOptions;
  readonly #recorder: JobRecorder;
  readonly #dropping = new AbortController(); // ends the job's work at once
  readonly #waking = new AbortController(); // ends what comes before the engine, and waiting
  #stop: Stop | null = null;
  #isTraining = false;
  #isInEngine = false; // so that its death may be the job's doing
  #endTurn = () => {}; // as the suspect
  #interruptions = 0; // since the last checkpoint
  #told: string | null = null; // of what keeps the job from the engine

  constructor(id: string, options: JobRunOptions) {
    this.id = id;
    this.#options = options;
    this.#recorder = new JobRecorder(id, options);
  }

  /** Unix time in milliseconds; null before it can be told. */
  get estimatedFinishMs(): number | null {
    return this.#recorder.estimatedFinishMs;
  }

  /** Resolves when the job is over or paused, or was stopped; rejects where that cannot be written down. */
  async run(): Promise<void> {
    while (this.#stop === null && isActive(this.#job)) {
      try {
        await this.#attempt();
        break;
      } catch (error) {
        if (this.#dropping.signal.aborted || this.#stop === "close") break;
        if (error === this.#waking.signal.reason) break; // before it was in the engine
        await this.#afterFailure(error);
      } finally {
        this.#endTurn();
      }
    }
    if (this.#stop === "pause" && !isOver(this.#job) && this.#job.status !== "paused") {
      this.#pauseJob(null);
    }
    if (!isOver(this.#job)) return;
    await this.#options.store.synced();
    await this.#options.checkpoints.remove(this.id);
  }

  /** A pause keeps a checkpoint; so does `close`, which leaves the job's state as it is. */
  stop(stop: Stop): void {
    this.#stop = stop;
    this.#waking.abort();
    if (stop === "cancel") this.#dropping.abort();
    else if (this.#isTraining) this.#options.engine.pauseTraining(this.id);
  }

  /** Gives up what `stop` still waits for. */
  drop(): void {
    this.#dropping.abort();
  }

  get #job(): PlannedJob {
    return plannedJob(this.#options.store.get(this.id)!);
  }

  async #attempt(): Promise<void> {
    const { engine, load, metrics, suspects } = this.#options;
    const job = this.#job;
    const { id, plan, tenant } = job;
    this.#isInEngine = false;
    if (plan.memoryBytes > this.#options.memoryBytes) throw exceedsMemory(plan, this.#options);
    const checkpoint = await this.#readCheckpoint();
    const { examplesHash, ...data } = await load(job, this.#waking.signal);
    if (examplesHash !== plan.examplesHash) throw dataChanged();
    // Last of all, as its time is meant for the engine.
    if (job.engineDeaths > 0) this.#endTurn = await suspects.turn(id, this.#waking.signal);
    if (this.#stop !== null) return;
    this.#recorder.begin();
    this.#isTraining = true;
    try {
      const owner = { id: tenant.id, weight: tenant.weight };
      const start: JobStart = { id, spec: plan.spec, tenant: owner, ...data, checkpoint };
      for await (const event of engine.train(start, this.#dropping.signal)) {
        await this.#handle(event, checkpoint);
        this.#dropping.signal.throwIfAborted();
      }
    } finally {
      this.#isTraining = false;
      metrics.forgetLoss(id);
    }
  }

  async #readCheckpoint(): Promise<JobCheckpoint | null> {
    const { checkpoint, damaged } = await this.#options.checkpoints.read(this.id);
    for (const name of damaged) {
      const from = checkpoint === null ? "the beginning" : `step ${checkpoint.step}`;
      this.#warn(`The checkpoint ${name} is damaged; training goes on from ${from}`);
    }
    return checkpoint;
  }

  async #handle(event: JobEvent, from: JobCheckpoint | null): Promise<void> {
    const recorder = this.#recorder;
    switch (event.type) {
      case "preparing":
        this.#isInEngine = true;
        this.#told = null;
        return;
      case "started":
        return recorder.started(event, from?.step ?? 0);
      case "step":
        return recorder.step(event);
      case "validation":
        return recorder.validation(event);
      case "checkpoint":
        await recorder.checkpoint(event.checkpoint, event.adapter, this.#stop === "pause");
        this.#interruptions = 0;
        this.#endTurn();
        return;
      case "finished":
        return await recorder.finished();
      case "paused":
        if (event.reason !== null) this.#pauseJob(event.reason);
        return; // else `run` says what becomes of the job
      case "failed":
        return this.#endWith({ code: event.code, message: event.message });
      default:
        event satisfies never;
    }
  }

  #pauseJob(problem: RecordedProblem | null): void {
    const message = problem === null ? "The job is paused" : `The job is paused: ${problem.message}`;
    this.#save(transition(this.#job, "paused", { problem }), newsOf(message, problem));
  }

  /** A failed job has nothing to go on from; a paused one has its checkpoint. */
  #endWith(problem: RecordedProblem): void {
    if (remedyOf(problem.code) !== "fail") return this.#pauseJob(problem);
    this.#save(
      transition(this.#job, "failed", { problem }),
      newsOf(`The job failed: ${problem.message}`, problem),
    );
  }

  /** Waits where that heals; else the job is paused, or has failed. */
  async #afterFailure(error: unknown): Promise<void> {
    const { logger, suspects, retryMs = 1000 } = this.#options;
    const { problem, remedy, retryAfterMs, isExpected } = failureOf(error);
    if (!isExpected) logger.error({ err: error, jobId: this.id }, "a finetuning job is paused");
    if (remedy !== "retry") return this.#endWith(problem);
    if (problem.code === "engine_restarting" && this.#isInEngine && suspects.includes(this.id)) {
      const engineDeaths = this.#job.engineDeaths + 1;
      if (engineDeaths >= mostDeaths) return this.#pauseJob(deadlyProblem);
      this.#options.store.save({ ...this.#job, engineDeaths });
    }
    if (problem.message !== this.#told) {
      this.#warn(`Interrupted, and goes on from the last checkpoint: ${problem.message}`);
    }
    this.#told = problem.message;
    const ownMs = Math.min(longestWaitMs, retryMs * 2 ** this.#interruptions++);
    const waitMs = Math.max(ownMs, retryAfterMs);
    await delay(waitMs, undefined, { signal: this.#waking.signal }).catch(() => {});
  }

  #warn(message: string): void {
    this.#save(this.#job, { level: "warn", type: "message", message, data: null });
  }

  #save(job: JobRecord, news: JobNews): void {
    this.#options.store.save(job, { news: [news] });
  }
}

function isActive({ status }: JobRecord): boolean {
  return status === "queued" || status === "running";
}

function newsOf(message: string, problem: RecordedProblem | null): JobNews {
  return { level: problem === null ? "info" : "error", type: "message", message, data: problem };
}

const deadlyProblem = {
  code: "engine_failed",
  message: `the engine failed ${mostDeaths} times while this job was in it, with no checkpoint between; resume it once the operator has found the cause`,
};

function dataChanged(): CotenantError {
  return new CotenantError(
    "training_data_changed",
    "the files are encoded to other tokens than when the job was made, as after an update of the tokenizer; resume it once the operator has put the former one back, or make a new job",
  );
}

function exceedsMemory(
  needed: PlannedJob["plan"],
  allowed: Pick<JobRunOptions, "memoryBytes">,
): CotenantError {
  return new CotenantError(
    "training_memory_exceeded",
    `the job needs ${needed.memoryBytes} bytes, more than the ${allowed.memoryBytes} of --training-memory-bytes; resume it once the operator has raised that limit`,
  );
}
