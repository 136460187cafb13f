// The engine threads that this process starts, for tests that kill them. Nothing of it is in the server.

import type { Worker } from "node:worker_threads";

export type EngineThreads = {
  readonly started: () => number;
  /** Ends the newest thread as the system would: in the middle of whatever it does. */
  readonly kill: () => Promise<void>;
  /** Makes the newest thread throw where nobody catches it. */
  readonly makeThrow: () => void;
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
    async kill() {
      await threads.at(-1)!.terminate();
    },
    makeThrow() {
      threads.at(-1)!.postMessage(null); // no message of the protocol: reading its type throws
    },
    [Symbol.dispose]: () => {
      process.off("worker", note);
    },
  };
}
