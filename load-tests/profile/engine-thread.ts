// V8's sampling profiler in the engine's thread, reached from the main one through the inspector.

import { Session } from "node:inspector/promises";
import type { CpuProfile } from "./cpu-samples.ts";

const samplingUs = 200;

type Reply = { readonly id?: number; readonly result?: unknown };

export class EngineThread {
  readonly #inspector = new Session();
  readonly #replies = new Map<number, (result: unknown) => void>();
  #worker: string | null = null;
  #messages = 0;

  /** Before the engine is started. */
  static async watch(): Promise<EngineThread> {
    const thread = new EngineThread();
    await thread.#connect();
    return thread;
  }

  async #connect(): Promise<void> {
    this.#inspector.connect();
    this.#inspector.on("NodeWorker.attachedToWorker", ({ params }) => {
      if (params.workerInfo.title.includes("engine")) this.#worker = params.sessionId;
    });
    this.#inspector.on("NodeWorker.receivedMessageFromWorker", ({ params }) => {
      const reply = JSON.parse(params.message) as Reply;
      if (reply.id !== undefined) this.#replies.get(reply.id)?.(reply.result);
    });
    await this.#inspector.post("NodeWorker.enable", { waitForDebuggerOnStart: false });
  }

  async startProfile(): Promise<void> {
    await this.#ask("Profiler.enable", {});
    await this.#ask("Profiler.setSamplingInterval", { interval: samplingUs });
    await this.#ask("Profiler.start", {});
  }

  async stopProfile(): Promise<CpuProfile> {
    const { profile } = (await this.#ask("Profiler.stop", {})) as { profile: CpuProfile };
    return profile;
  }

  close(): void {
    this.#inspector.disconnect();
  }

  async #ask(method: string, params: object): Promise<unknown> {
    if (this.#worker === null) throw new Error("the engine's thread is unknown to the inspector");
    const id = ++this.#messages;
    const reply = Promise.withResolvers<unknown>();
    this.#replies.set(id, reply.resolve);
    const message = JSON.stringify({ id, method, params });
    await this.#inspector.post("NodeWorker.sendMessageToWorker", { sessionId: this.#worker, message });
    return reply.promise;
  }
}
