// Encodes long texts in a worker thread, so that one client's long prompt does not hold up everybody's tokens.
// The thread starts with the first of them.

import { Worker } from "node:worker_threads";
import { siblingModule } from "../../kernels/sibling-module.ts";
import { UntokenizableTextError } from "../errors.ts";
import type { EncodeJob, EncodeResult } from "./encode-worker.ts";

export class LongTextEncoder {
  readonly #modelDirectory: string;
  readonly #waiting = new Map<number, PromiseWithResolvers<number[]>>();
  #worker: Worker | null = null;
  #nextId = 0;

  constructor(modelDirectory: string) {
    this.#modelDirectory = modelDirectory;
  }

  /** Throws UntokenizableTextError. */
  encode(text: string, options: { readonly addSpecialTokens: boolean }): Promise<number[]> {
    const id = this.#nextId++;
    const result = Promise.withResolvers<number[]>();
    this.#waiting.set(id, result);
    this.#worker ??= this.#start();
    this.#worker.postMessage({ id, text, addSpecialTokens: options.addSpecialTokens } satisfies EncodeJob);
    return result.promise;
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #start(): Worker {
    const worker = new Worker(siblingModule(import.meta.url, "./encode-worker"), {
      workerData: this.#modelDirectory,
    });
    worker.unref(); // it holds nothing that a process must wait for
    worker.on("message", ({ id, tokenIds }: EncodeResult) => {
      const result = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (tokenIds) result?.resolve(tokenIds);
      else result?.reject(new UntokenizableTextError());
    });
    worker.on("error", (error) => this.#drop(error));
    worker.on("exit", () => this.#drop(new Error("the tokenizer's thread ended")));
    return worker;
  }

  /** The next long text starts a new thread. */
  #drop(error: Error): void {
    this.#worker = null;
    for (const result of this.#waiting.values()) result.reject(error);
    this.#waiting.clear();
  }
}
