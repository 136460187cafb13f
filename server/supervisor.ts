// Keeps an engine running: where its thread dies, the requests in it end with `engine_restarting`, and a new engine
// takes its place under the same handle. Gives up where engines die again and again. Knows no HTTP and no adapters.

import { setTimeout as delay } from "node:timers/promises";
import type { JobEvent, JobStart } from "../finetuning/job.ts";
import type { DecodedAdapter } from "../kernels/adapter.ts";
import { CotenantError } from "../kernels/errors.ts";
import type { Engine } from "../scheduler/engine.ts";
import {
  type EngineStats,
  type GenerationEvent,
  type GenerationRequest,
  idleStats,
} from "../scheduler/protocol.ts";
import { EngineRestartingError } from "./errors.ts";

/** So many deaths and failed starts within the window, and the server gives up. */
export type RestartLimits = {
  readonly failures: number;
  readonly windowMs: number;
  readonly firstDelayMs: number; // before the second try in a row; each further one waits twice as long
};

export const defaultRestartLimits: RestartLimits = { failures: 5, windowMs: 300_000, firstDelayMs: 500 };

export type SupervisorOptions = {
  readonly start: () => Promise<Engine>;
  readonly onDown: (outage: Outage) => void;
  /** The new engine knows no adapters; nothing reaches it before this returns. */
  readonly onUp: (model: Engine["model"]) => void;
  readonly limits?: RestartLimits;
};

export type Outage = { readonly error: unknown; readonly retryAfterMs: number };

/** An engine and whether its thread is gone. */
type Life = { readonly engine: Engine; isOver: boolean };

const shortestRetryMs = 1000;

/** An Engine that outlives its threads. `failure` is rejected only when the supervisor has given up. */
export class SupervisedEngine implements Engine {
  readonly failure: Promise<never>;
  restarts = 0;
  /** Why there is no engine at the moment; null while there is one. */
  outage: Outage | null = null;
  readonly #options: SupervisorOptions;
  readonly #limits: RestartLimits;
  readonly #failure = Promise.withResolvers<never>();
  readonly #closing = new AbortController();
  readonly #failuresMs: number[] = []; // when the latest ones happened
  #life: Life;
  #startMs: number; // how long the latest start took
  #recovery: Promise<void> = Promise.resolve();

  private constructor(options: SupervisorOptions, first: Engine, startMs: number) {
    this.#options = options;
    this.#limits = options.limits ?? defaultRestartLimits;
    this.#startMs = startMs;
    this.failure = this.#failure.promise;
    this.failure.catch(() => {}); // nobody has to listen
    this.#life = this.#live(first);
  }

  /** Rejects as the first start does. */
  static async start(options: SupervisorOptions): Promise<SupervisedEngine> {
    const startedMs = performance.now();
    const engine = await options.start();
    return new SupervisedEngine(options, engine, performance.now() - startedMs);
  }

  /** Of the latest engine: the same checkpoint with the same options, maybe on another device. */
  get model(): Engine["model"] {
    return this.#life.engine.model;
  }

  get stats(): EngineStats {
    return this.#life.isOver ? idleStats : this.#life.engine.stats;
  }

  generate(request: GenerationRequest, signal?: AbortSignal): AsyncGenerator<GenerationEvent> {
    return this.#stream((engine) => engine.generate(request, signal));
  }

  /** Whoever runs the job starts it again, from its last checkpoint, when an engine's death ended the stream. */
  train(job: JobStart, signal?: AbortSignal): AsyncGenerator<JobEvent> {
    return this.#stream((engine) => engine.train(job, signal));
  }

  /** A dead engine's jobs have ended. */
  pauseTraining(jobId: string): void {
    const life = this.#life;
    if (!life.isOver) life.engine.pauseTraining(jobId);
  }

  async addAdapter(version: string, adapter: DecodedAdapter): Promise<void> {
    const life = this.#life;
    if (life.isOver) throw this.#restarting();
    try {
      await life.engine.addAdapter(version, adapter);
    } catch (error) {
      throw life.isOver ? this.#restarting() : error;
    }
  }

  /** What an engine held is gone with it. */
  async removeAdapter(version: string): Promise<void> {
    const life = this.#life;
    if (life.isOver) return;
    try {
      await life.engine.removeAdapter(version);
    } catch (error) {
      if (!life.isOver) throw error;
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#recovery;
    await this.#life.engine.close();
  }

  async *#stream<Event>(open: (engine: Engine) => AsyncIterable<Event>): AsyncGenerator<Event> {
    const life = this.#life;
    if (life.isOver) throw this.#restarting();
    try {
      yield* open(life.engine);
    } catch (error) {
      throw life.isOver ? this.#restarting() : error;
    }
  }

  #live(engine: Engine): Life {
    const life = { engine, isOver: false };
    // An engine rejects `failure` before it ends its streams: they find the life over.
    engine.failure.catch((error: unknown) => {
      life.isOver = true;
      if (!this.#closing.signal.aborted) this.#recovery = this.#recover(error);
    });
    return life;
  }

  async #recover(death: unknown): Promise<void> {
    this.outage = { error: death, retryAfterMs: this.#retryAfterMs };
    this.#options.onDown(this.outage);
    await this.#life.engine.close(); // its thread is gone then: the weights are never in memory twice
    let error = death;
    let waitMs = 0;
    while (!this.#isTooMuch(error)) {
      await delay(waitMs, undefined, { signal: this.#closing.signal }).catch(() => {});
      waitMs = waitMs * 2 || this.#limits.firstDelayMs;
      if (this.#closing.signal.aborted) return;
      try {
        await this.#replace();
        return;
      } catch (startError) {
        error = startError;
      }
    }
  }

  async #replace(): Promise<void> {
    const startedMs = performance.now();
    const engine = await this.#options.start();
    this.#startMs = performance.now() - startedMs;
    this.restarts++;
    this.outage = null;
    if (!this.#closing.signal.aborted) this.#options.onUp(engine.model);
    this.#life = this.#live(engine);
  }

  /** Counts a failure; the one that is too much ends the server. */
  #isTooMuch(error: unknown): boolean {
    const { failures, windowMs } = this.#limits;
    const nowMs = performance.now();
    this.#failuresMs.push(nowMs);
    while (nowMs - this.#failuresMs[0]! > windowMs) this.#failuresMs.shift();
    if (this.#failuresMs.length < failures) return false;
    const reason = error instanceof Error ? error.message : String(error);
    const message = `the engine failed ${failures} times within ${Math.round(windowMs / 1000)} s, the last time with: ${reason}; look for the first failure in the log. Where memory ran out, lower --max-rows, --max-context or --host-cache-bytes; where the files are damaged, remove the --cache folder; then start the server again`;
    this.#failure.reject(new CotenantError("engine_gave_up", message, { cause: error }));
    return true;
  }

  #restarting(): EngineRestartingError {
    return new EngineRestartingError(this.#retryAfterMs);
  }

  get #retryAfterMs(): number {
    return Math.max(shortestRetryMs, Math.round(this.#startMs));
  }
}
