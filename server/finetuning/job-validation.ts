// One job whose files are being validated: it is queued then, or has failed with what is wrong with them. What comes in
// the way of that (storage that is away) it outlasts. Knows no engine.

import { setTimeout as delay } from "node:timers/promises";
import { RequestError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { failureOf } from "./job-failure.ts";
import { info, type JobPlan, type JobRecord, transition } from "./job-record.ts";
import type { JobStore } from "./job-store.ts";

export type JobValidationOptions = {
  readonly store: JobStore;
  /** Throws RequestErrors for what no job can be made of. */
  readonly plan: (job: JobRecord, signal: AbortSignal) => Promise<JobPlan>;
  readonly logger: Logger;
  readonly retryMs?: number; // before it tries again
};

export class JobValidation {
  readonly #id: string;
  readonly #options: JobValidationOptions;
  readonly #stopping = new AbortController();

  constructor(id: string, options: JobValidationOptions) {
    this.#id = id;
    this.#options = options;
  }

  /** Resolves when the job is queued, paused or over, or was stopped; rejects where that cannot be written down. */
  async run(): Promise<void> {
    const { signal } = this.#stopping;
    const { store, retryMs = 1000 } = this.#options;
    while (!signal.aborted) {
      let plan: JobPlan;
      try {
        plan = await this.#options.plan(this.#job, signal);
      } catch (error) {
        if (signal.aborted || this.#isEnd(error)) return;
        await delay(retryMs, undefined, { signal }).catch(() => {});
        continue;
      }
      if (signal.aborted) return;
      const message = "Files validated, moving job to queued state"; // OpenAI's
      store.save(transition(this.#job, "queued", { plan }), { news: [info(message)] });
      return;
    }
  }

  /** Leaves the job's state as it is. */
  stop(): void {
    this.#stopping.abort();
  }

  /** False where trying again may help. */
  #isEnd(error: unknown): boolean {
    const { store, logger } = this.#options;
    const { remedy, problem, isExpected } = failureOf(error);
    if (remedy === "retry") return false;
    if (!isExpected) logger.error({ err: error, jobId: this.#id }, "a finetuning job is paused");
    const isRefused = remedy === "fail" || error instanceof RequestError;
    const message = `The job ${isRefused ? "failed" : "is paused"}: ${problem.message}`;
    store.save(transition(this.#job, isRefused ? "failed" : "paused", { problem }), {
      news: [{ level: "error", type: "message", message, data: problem }],
    });
    return true;
  }

  get #job(): JobRecord {
    return this.#options.store.get(this.#id)!;
  }
}
