// A finetuning job in an engine that takes more steps than anybody waits for, and when it took them.

import type { JobStart } from "../../finetuning/job.ts";
import type { Engine } from "../../scheduler/engine.ts";

/** A step that is done. */
type Mark = { readonly atMs: number; readonly tokens: number }; // tokens: of all steps until then

export class SteppingJob {
  readonly #cancelled = new AbortController();
  readonly #ended: Promise<void>;
  #next = Promise.withResolvers<Mark>();

  constructor(engine: Pick<Engine, "train">, start: JobStart) {
    this.#ended = this.#follow(engine.train(start, this.#cancelled.signal)).catch((error) => {
      this.#next.promise.catch(() => undefined); // nobody may be waiting
      this.#next.reject(error);
    });
  }

  /** Resolves when the step under way is done. */
  step(): Promise<Mark> {
    return this.#next.promise;
  }

  /** From the end of one step to the end of the first that takes so long. @returns tokens per second */
  async throughput(atLeastMs: number): Promise<number> {
    const first = await this.step();
    let last = await this.step();
    while (last.atMs - first.atMs < atLeastMs) last = await this.step();
    return ((last.tokens - first.tokens) * 1000) / (last.atMs - first.atMs);
  }

  async drop(): Promise<void> {
    this.#cancelled.abort();
    await this.#ended;
  }

  async #follow(events: ReturnType<Engine["train"]>): Promise<void> {
    let tokens = 0;
    for await (const event of events) {
      if (event.type === "failed") throw new Error(`the job failed: ${event.code}: ${event.message}`);
      if (event.type !== "step") continue;
      tokens += event.tokens;
      const { resolve } = this.#next;
      this.#next = Promise.withResolvers();
      resolve({ atMs: performance.now(), tokens });
    }
    throw new Error("the job ended while it was measured");
  }
}
