// Encodes long texts, and decodes long lists of token ids, in a worker thread, so that one client's long prompt does not
// hold up everybody's tokens, one at a time, by turns of the tenants. The thread starts with the first of them.

import { Worker } from "node:worker_threads";
import { siblingModule } from "../../kernels/sibling-module.ts";
import { RequestError } from "../errors.ts";
import { EncodingTurns } from "../finetuning/encoding-turns.ts";
import type { DecodeJob, EncodeJob, TextJob, TextResult } from "./encode-worker.ts";
import type { ChatText, EncodeOptions, Sender } from "./text-model.ts";

/** Training files, which have turns of their own before they get here. */
const serverItself: Sender = { tenantId: "", signal: new AbortController().signal };

export class LongTextEncoder {
  readonly #modelDirectory: string;
  readonly #turns = new EncodingTurns();
  readonly #waiting = new Map<number, Pick<PromiseWithResolvers<never>, "resolve" | "reject">>();
  #worker: Worker | null = null;
  #nextId = 0;

  constructor(modelDirectory: string) {
    this.#modelDirectory = modelDirectory;
  }

  /** Throws as TextModel's `encode` and `encodeChat` do. A sender who leaves before the turn costs nothing. */
  encode(
    source: string | ChatText,
    { addSpecialTokens, sender = serverItself }: EncodeOptions,
  ): Promise<number[]> {
    return this.#inTurn({ source, addSpecialTokens, maxTokens: sender.maxTokens }, sender);
  }

  /** Throws as TextModel's `decode` does. */
  decode(tokenIds: readonly number[], sender: Sender): Promise<string> {
    return this.#inTurn({ tokenIds }, sender);
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #inTurn<Result>(job: EncodeJob | DecodeJob, { tenantId, signal }: Sender): Promise<Result> {
    return this.#turns.run(tenantId, signal, () => {
      const id = this.#nextId++;
      const result = Promise.withResolvers<Result>();
      this.#waiting.set(id, result);
      this.#worker ??= this.#start();
      this.#worker.postMessage({ id, ...job } satisfies TextJob);
      return result.promise;
    });
  }

  #start(): Worker {
    const worker = new Worker(siblingModule(import.meta.url, "./encode-worker"), {
      workerData: this.#modelDirectory,
    });
    worker.unref(); // it holds nothing that a process must wait for
    worker.on("message", (message: TextResult) => {
      const waiting = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      if ("result" in message) return waiting?.resolve(message.result as never);
      const { code, message: text, param } = message.refusal;
      waiting?.reject(new RequestError(code, text, param));
    });
    worker.on("error", (error) => this.#drop(error));
    worker.on("exit", () => this.#drop(new Error("the tokenizer's thread ended")));
    return worker;
  }

  /** The next long text starts a new thread. */
  #drop(error: Error): void {
    this.#worker = null;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}
