// The engine threads that this process starts, for tests that kill them. Nothing of it is in the server.

import type { Worker } from "node:worker_threads";

export type EngineThreads = {
  readonly started: () => number;
  /** Makes the newest thread throw where nobody catches it, between two steps. */
  readonly kill: () => void;
  /** Ends the newest thread, which must be idle: the runtime aborts the process when its thread is ended in a run. */
  readonly terminate: () => Promise<void>;
  readonly [Symbol.dispose]: () => void;
};

export function watchEngineThreads(): EngineThreads {
  const threads: Worker[] = [];
  const note = (worker: Worker) => {
    if (worker.threadName === "engine") threads.push(worker);
  };
  process.on("worker", note);
  return {
    started: () => threads.length,
    kill() {
      threads.at(-1)!.postMessage(null); // no message of the protocol: reading its type throws
    },
    async terminate() {
      await threads.at(-1)!.terminate();
    },
    [Symbol.dispose]: () => {
      process.off("worker", note);
    },
  };
}
