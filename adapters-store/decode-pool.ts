// Threads that parse, check and hash adapters, so that the HTTP thread never does. Started when first needed;
// an idle thread does not keep the process alive. A job that hangs or exhausts its memory (a hostile pattern
// or header) costs that thread, not the process.

import { Worker } from "node:worker_threads";
import { AdapterError } from "../kernels/errors.ts";
import { siblingModule } from "../kernels/sibling-module.ts";
import type { DecodeJob, DecodeResult } from "./decode-adapter.ts";
import type { WorkerAnswer, WorkerRequest } from "./decode-worker.ts";

export type DecodePoolOptions = {
  readonly threads?: number; // default 2
  readonly timeoutMs?: number; // per job, default 60 s
};

type Task = {
  readonly request: WorkerRequest;
  readonly resolve: (result: DecodeResult) => void;
  readonly reject: (error: unknown) => void;
};

export class DecodePool {
  readonly #threads: number;
  readonly #timeoutMs: number;
  readonly #waiting: Task[] = [];
  readonly #idle: Worker[] = [];
  readonly #busy = new Map<Worker, { readonly task: Task; readonly timer: NodeJS.Timeout }>();
  #closed = false;

  constructor({ threads = 2, timeoutMs = 60_000 }: DecodePoolOptions = {}) {
    this.#threads = threads;
    this.#timeoutMs = timeoutMs;
  }

  /** Modules included. Throws AdapterError with the format's code, or `adapter_decode_failed`. */
  decode(job: DecodeJob): Promise<DecodeResult> {
    return this.#submit({ job, wantsModules: true });
  }

  /** The same checks; the modules stay behind. */
  async inspect(job: DecodeJob): Promise<Omit<DecodeResult, "adapter">> {
    const { summary, version } = await this.#submit({ job, wantsModules: false });
    return { summary, version };
  }

  /** Ends the threads; jobs under way and waiting are rejected. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const task of this.#waiting.splice(0)) task.reject(failure("the store is closing"));
    const workers = [...this.#idle.splice(0), ...this.#busy.keys()];
    for (const worker of this.#busy.keys()) this.#fail(worker, failure("the store is closing"));
    await Promise.all(workers.map((worker) => worker.terminate()));
  }

  #submit(request: WorkerRequest): Promise<DecodeResult> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(failure("the store is closed"));
      this.#waiting.push({ request, resolve, reject });
      this.#dispatch();
    });
  }

  #dispatch(): void {
    while (this.#waiting.length > 0 && this.#busy.size < this.#threads) {
      const worker = this.#idle.pop() ?? this.#start();
      const task = this.#waiting.shift()!;
      const timer = setTimeout(() => {
        this.#fail(worker, failure(`it took longer than ${this.#timeoutMs} ms`));
        void worker.terminate();
      }, this.#timeoutMs);
      this.#busy.set(worker, { task, timer });
      worker.ref();
      worker.postMessage(task.request);
    }
  }

  #start(): Worker {
    const worker = new Worker(siblingModule(import.meta.url, "./decode-worker"), {
      resourceLimits: { maxOldGenerationSizeMb: 1024 },
    });
    worker.on("message", (answer: WorkerAnswer) => this.#finish(worker, answer));
    worker.on("error", (error) => this.#fail(worker, failure(error.message)));
    worker.on("exit", () => this.#fail(worker, failure("its thread ended")));
    return worker;
  }

  #finish(worker: Worker, answer: WorkerAnswer): void {
    const task = this.#release(worker);
    worker.unref();
    this.#idle.push(worker);
    if (answer.type === "decoded") task?.resolve(answer.result);
    else
      task?.reject(answer.type === "refused" ? new AdapterError(answer.code, answer.message) : answer.error);
    this.#dispatch();
  }

  /** The worker is gone or about to be; calling it twice is harmless. */
  #fail(worker: Worker, error: AdapterError): void {
    const task = this.#release(worker);
    const idleAt = this.#idle.indexOf(worker);
    if (idleAt >= 0) this.#idle.splice(idleAt, 1);
    task?.reject(error);
    this.#dispatch();
  }

  #release(worker: Worker): Task | undefined {
    const running = this.#busy.get(worker);
    if (running === undefined) return undefined;
    clearTimeout(running.timer);
    this.#busy.delete(worker);
    return running.task;
  }
}

function failure(why: string): AdapterError {
  return new AdapterError(
    "adapter_decode_failed",
    `the adapter could not be decoded: ${why}; try a smaller one`,
  );
}
