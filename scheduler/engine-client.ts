// Starts the engine worker and turns its messages into promises and one stream of events per request.

import { Worker } from "node:worker_threads";
import type { JobEvent, JobStart } from "../finetuning/job.ts";
import { adapterBuffers, type DecodedAdapter } from "../kernels/adapter.ts";
import { CotenantError } from "../kernels/errors.ts";
import { siblingModule } from "../kernels/sibling-module.ts";
import { type Engine, RefusedRequestError, type StartEngine } from "./engine.ts";
import { EventQueue } from "./event-queue.ts";
import {
  type EngineStats,
  type FromEngine,
  type GenerationEvent,
  type GenerationRequest,
  idleStats,
  type ServedModel,
  type ToEngine,
} from "./protocol.ts";
import { buffersOfJob } from "./transfers.ts";

/** @throws CotenantError with the engine's code where the model cannot be served */
export const startEngine: StartEngine = async (options, onProgress) => {
  const worker = new Worker(siblingModule(import.meta.url, "./engine-worker"), {
    name: "engine",
    workerData: options,
  });
  const client = new EngineClient(worker, onProgress);
  await client.ready;
  return client;
};

/** One stream of events: what begins it, what ends it before its time, and where its queue is known meanwhile. */
type Stream<Event> = {
  readonly signal: AbortSignal | undefined;
  readonly begin: ToEngine;
  readonly transfer: ArrayBuffer[]; // of what begins it
  readonly cancel: ToEngine;
  readonly isLast: (event: Event) => boolean;
  readonly enter: () => void;
  readonly leave: () => void;
};

class EngineClient implements Engine {
  readonly ready: Promise<void>;
  readonly failure: Promise<never>;
  stats: EngineStats = idleStats;
  #model: ServedModel | null = null;
  #closing = false;
  #failed: CotenantError | null = null;
  readonly #worker: Worker;
  readonly #onProgress: Parameters<StartEngine>[1];
  readonly #streams = new Map<string, EventQueue<GenerationEvent>>();
  readonly #runs = new Map<number, { readonly jobId: string; readonly queue: EventQueue<JobEvent> }>();
  #lastRun = 0;
  readonly #adapters = new Map<string, PromiseWithResolvers<void>>();
  readonly #removals = new Map<string, PromiseWithResolvers<void>>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #failure = Promise.withResolvers<never>();
  readonly #exited: Promise<void>;

  constructor(worker: Worker, onProgress: Parameters<StartEngine>[1]) {
    this.#worker = worker;
    this.#onProgress = onProgress;
    this.ready = this.#ready.promise;
    this.failure = this.#failure.promise;
    this.failure.catch(() => undefined); // nobody has to listen
    worker.on("message", (message: FromEngine) => this.#receive(message));
    worker.on("error", (error) =>
      this.#fail(new CotenantError("engine_failed", error.message, { cause: error })),
    );
    this.#exited = new Promise((resolve) => worker.once("exit", () => resolve()));
    void this.#exited.then(() => {
      if (!this.#closing)
        this.#fail(new CotenantError("engine_failed", "the engine thread ended; restart the server"));
    });
  }

  get model(): ServedModel {
    if (this.#model === null) throw new Error("the engine is not ready");
    return this.#model;
  }

  async *generate(request: GenerationRequest, signal?: AbortSignal): AsyncGenerator<GenerationEvent> {
    const { id } = request;
    if (this.#streams.has(id)) throw alreadyRunning("request", id);
    const queue = new EventQueue<GenerationEvent>();
    yield* this.#follow(queue, {
      signal,
      begin: { type: "submit", request },
      transfer: [],
      cancel: { type: "cancel", id },
      isLast: ({ type }) => type === "finished",
      enter: () => this.#streams.set(id, queue),
      leave: () => this.#streams.delete(id),
    });
  }

  async *train(job: JobStart, signal?: AbortSignal): AsyncGenerator<JobEvent> {
    const jobId = job.id;
    if ([...this.#runs.values()].some((run) => run.jobId === jobId)) throw alreadyRunning("job", jobId);
    const queue = new EventQueue<JobEvent>();
    const run = ++this.#lastRun;
    const events = this.#follow(queue, {
      signal,
      begin: { type: "start-training", run, job },
      transfer: buffersOfJob(job),
      cancel: { type: "drop-training", jobId },
      isLast: ({ type }) => type === "finished" || type === "paused" || type === "failed",
      enter: () => this.#runs.set(run, { jobId, queue }),
      leave: () => this.#runs.delete(run),
    });
    for await (const event of events) {
      yield event;
      // Who asks for the next event has done with this one. Messages keep their order, so the job is still this run's.
      if (event.type === "checkpoint" && this.#failed === null) {
        this.#post({ type: "checkpoint-taken", jobId });
      }
    }
  }

  pauseTraining(jobId: string): void {
    if (this.#failed === null) this.#post({ type: "pause-training", jobId });
  }

  addAdapter(version: string, adapter: DecodedAdapter): Promise<void> {
    const message: ToEngine = { type: "add-adapter", version, adapter };
    return this.#request(this.#adapters, version, message, adapterBuffers(adapter));
  }

  removeAdapter(version: string): Promise<void> {
    return this.#request(this.#removals, version, { type: "remove-adapter", version }, []);
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#post({ type: "close" });
    await this.#exited;
    this.#endAll(new CotenantError("server_closing", "the server is shutting down; send the request again"));
  }

  async *#follow<Event>(queue: EventQueue<Event>, stream: Stream<Event>): AsyncGenerator<Event> {
    const { signal, begin, transfer, cancel, isLast, enter, leave } = stream;
    if (this.#failed !== null) throw this.#failed;
    signal?.throwIfAborted();
    enter();
    const abort = () => queue.fail(abortError(signal!));
    signal?.addEventListener("abort", abort, { once: true });
    let ended = false;
    try {
      this.#post(begin, transfer);
      for await (const event of queue) {
        ended = isLast(event);
        yield event;
        if (ended) return;
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      leave();
      if (!ended && this.#failed === null) this.#post(cancel);
    }
  }

  #request(
    pending: Map<string, PromiseWithResolvers<void>>,
    version: string,
    message: ToEngine,
    transfer: ArrayBuffer[],
  ): Promise<void> {
    if (this.#failed !== null) return Promise.reject(this.#failed);
    const known = pending.get(version);
    if (known !== undefined) return known.promise;
    const reply = Promise.withResolvers<void>();
    pending.set(version, reply);
    this.#worker.postMessage(message, transfer);
    return reply.promise;
  }

  #receive(message: FromEngine): void {
    switch (message.type) {
      case "progress":
        return this.#onProgress(message);
      case "ready":
        this.#model = message.model;
        return this.#ready.resolve();
      case "events":
        for (const [id, event] of message.events) this.#streams.get(id)?.push(event);
        return;
      case "refused":
        return this.#streams.get(message.id)?.fail(new RefusedRequestError(message));
      case "adapter-added":
        return settle(this.#adapters, message.version);
      case "adapter-failed":
        this.#adapters.get(message.version)?.reject(new CotenantError(message.code, message.message));
        this.#adapters.delete(message.version);
        return;
      case "adapter-removed":
        return settle(this.#removals, message.version);
      case "training":
        return this.#runs.get(message.run)?.queue.push(message.event);
      case "stats":
        this.stats = message.stats;
        return;
      case "failed":
        return this.#fail(new CotenantError(message.code, message.message));
      default:
        message satisfies never;
    }
  }

  #fail(error: CotenantError): void {
    if (this.#failed !== null) return;
    this.#failed = error;
    this.#ready.reject(error);
    this.#failure.reject(error);
    this.#endAll(error);
  }

  #endAll(error: CotenantError): void {
    for (const queue of this.#streams.values()) queue.fail(error);
    for (const { queue } of this.#runs.values()) queue.fail(error);
    for (const reply of [...this.#adapters.values(), ...this.#removals.values()]) reply.reject(error);
  }

  #post(message: ToEngine, transfer: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer);
  }
}

function alreadyRunning(what: "request" | "job", id: string): CotenantError {
  return new CotenantError(`duplicate_${what}`, `${what} ${id} is already running; give each its own id`);
}

/** Some callers abort with a string; whoever reads the stream gets an error all the same. */
function abortError({ reason }: AbortSignal): Error {
  return reason instanceof Error ? reason : new DOMException(String(reason), "AbortError");
}

function settle(pending: Map<string, PromiseWithResolvers<void>>, version: string): void {
  pending.get(version)?.resolve();
  pending.delete(version);
}
