// The loop that owns all scheduling state: plan, run, postprocess, report. It talks to a device through
// ModelRunner and to the outside through the messages of protocol.ts.

import type { DecodedAdapter } from "../kernels/adapter.ts";
import type { Logits, ModelRunner } from "../kernels/model-runner.ts";
import type { EngineStats, FromEngine, GenerationEvent, GenerationRequest, ToEngine } from "./protocol.ts";
import type { Budget, SchedulingPolicy, StepPlan } from "./scheduling-policy.ts";
import { Sequence } from "./sequence.ts";

export type LoopOptions = {
  readonly runner: ModelRunner;
  readonly policy: SchedulingPolicy;
  readonly budget: Budget;
  readonly eosTokenIds: readonly number[];
  readonly vocabSize: number;
  readonly post: (message: FromEngine) => void;
};

const statsIntervalMs = 100;
/** A chunk whose every token needs logits returns [tokens, vocab] floats: this many keep it under 40 MB. */
const scoredChunkTokens = 64;

export class EngineLoop {
  readonly #options: LoopOptions;
  readonly #sequences = new Map<string, Sequence>(); // in order of arrival
  readonly #removedAdapters = new Set<string>(); // leave when their last sequence does
  #events: [string, GenerationEvent][] = [];
  #running: Promise<void> | null = null;
  readonly #inbox: ToEngine[] = [];
  #closed = false;
  #steps = 0;
  #stepMs = 0;
  #statsSentMs = 0;

  constructor(options: LoopOptions) {
    this.#options = options;
  }

  /** Takes one message. It is handled between two steps, never during one. */
  receive(message: ToEngine): void {
    this.#inbox.push(message);
    this.#running ??= this.#run();
  }

  /** Resolves when nothing is left to do, or after `close` when the step under way has ended. */
  async idle(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    await null; // so that `receive` has noted the run before it can end
    this.#handleInbox();
    let start = performance.now();
    while (this.#sequences.size > 0 && !this.#closed) {
      await this.#step();
      this.#steps++;
      this.#stepMs += performance.now() - start; // from step to step: messages and reports are in it
      start = performance.now();
      this.#report();
      await new Promise<void>((resolve) => setImmediate(resolve)); // lets messages in
      this.#handleInbox();
    }
    this.#running = null;
    this.#reportStats();
  }

  #handleInbox(): void {
    for (const message of this.#inbox.splice(0)) this.#handle(message);
  }

  #handle(message: ToEngine): void {
    switch (message.type) {
      case "submit":
        return this.#submit(message.request);
      case "cancel":
        return this.#cancel(message.id);
      case "add-adapter":
        return this.#addAdapter(message.version, message.adapter);
      case "remove-adapter":
        this.#removedAdapters.add(message.version);
        this.#dropRemovedAdapters();
        return this.#options.post({ type: "adapter-removed", version: message.version });
      case "close":
        this.#closed = true;
        return;
      default:
        message satisfies never;
    }
  }

  async #step(): Promise<void> {
    const plan = this.#plan();
    await this.#decode(plan);
    for (const { id, tokens } of plan.prefill) await this.#prefill(id, tokens);
  }

  #plan(): StepPlan {
    const { policy, budget, runner } = this.#options;
    const sequences = [...this.#sequences.values()].map((sequence) => sequence.snapshot());
    return policy.plan({ sequences, maxRows: runner.maxRows }, budget);
  }

  async #decode(plan: StepPlan): Promise<void> {
    if (plan.decode.length === 0) return;
    const sequences = plan.decode.map((id) => this.#sequences.get(id)!);
    const entries = sequences.map(({ request, lastTokenId }) => ({
      sequence: request.id,
      tokenId: lastTokenId,
    }));
    const logits = await this.#attempt(sequences, () => this.#options.runner.decode(entries));
    if (logits === null) return;
    for (const [index, row] of rowsOf(logits).entries()) {
      const sequence = sequences[index]!;
      this.#emit(sequence, sequence.take(row));
    }
  }

  async #prefill(id: string, planned: number): Promise<void> {
    const { runner } = this.#options;
    const sequence = this.#sequences.get(id)!;
    const starts = sequence.state === "waiting";
    if (starts) sequence.transition("prefilling");
    const tokens = sequence.request.promptLogprobs === null ? planned : Math.min(planned, scoredChunkTokens);
    const chunk = sequence.nextChunk(tokens);
    const promptLength = sequence.request.promptTokenIds.length;
    const logits = await this.#attempt([sequence], () => {
      if (starts) runner.open(id, sequence.request.adapterVersion);
      return runner.prefill({ sequence: id, promptLength, ...chunk });
    });
    if (logits === null) return;
    this.#emit(sequence, sequence.chunkDone(tokens, rowsOf(logits)));
  }

  /** A failed run ends the sequences that were in it, and nothing else. */
  async #attempt(sequences: readonly Sequence[], run: () => Promise<Logits>): Promise<Logits | null> {
    try {
      return await run();
    } catch (error) {
      const message = `the engine's step failed: ${error instanceof Error ? error.message : String(error)}`;
      for (const sequence of sequences) this.#refuse(sequence.request.id, "engine_step_failed", message);
      return null;
    }
  }

  #emit(sequence: Sequence, events: readonly GenerationEvent[]): void {
    for (const event of events) this.#events.push([sequence.request.id, event]);
    if (sequence.state === "finished") this.#leave(sequence);
  }

  #report(): void {
    if (this.#events.length > 0) {
      this.#options.post({ type: "events", events: this.#events });
      this.#events = [];
    }
    if (performance.now() - this.#statsSentMs >= statsIntervalMs) this.#reportStats();
  }

  #submit(request: GenerationRequest): void {
    const refusal = this.#whyNot(request);
    if (refusal !== null) return this.#options.post({ type: "refused", id: request.id, ...refusal });
    this.#sequences.set(request.id, new Sequence(request, this.#options.eosTokenIds));
  }

  /** The HTTP side checks first, with better words; here nothing that would break a step gets in. */
  #whyNot(request: GenerationRequest): { code: string; message: string } | null {
    const { runner, vocabSize } = this.#options;
    const { promptTokenIds, maxTokens, adapterVersion, id } = request;
    if (this.#sequences.has(id))
      return { code: "duplicate_request", message: `request ${id} is already running` };
    const tokens = promptTokenIds.length + maxTokens;
    if (promptTokenIds.length === 0 || tokens > runner.maxContext) {
      const message = `${promptTokenIds.length} prompt and ${maxTokens} completion tokens do not fit a context of ${runner.maxContext}; shorten the prompt or lower max_tokens`;
      return { code: "context_length_exceeded", message };
    }
    if (promptTokenIds.some((token) => !Number.isInteger(token) || token < 0 || token >= vocabSize)) {
      return {
        code: "invalid_token_id",
        message: `token ids must be whole numbers from 0 to ${vocabSize - 1}`,
      };
    }
    if (
      adapterVersion !== null &&
      (!runner.hasAdapter(adapterVersion) || this.#removedAdapters.has(adapterVersion))
    ) {
      return { code: "adapter_not_found", message: `adapter version ${adapterVersion} is not loaded` };
    }
    return null;
  }

  #cancel(id: string): void {
    const sequence = this.#sequences.get(id);
    if (sequence !== undefined) this.#leave(sequence); // else it finished while the message was under way
  }

  #refuse(id: string, code: string, message: string): void {
    this.#options.post({ type: "refused", id, code, message });
    const sequence = this.#sequences.get(id);
    if (sequence !== undefined) this.#leave(sequence);
  }

  #leave(sequence: Sequence): void {
    const { id } = sequence.request;
    this.#sequences.delete(id);
    if (this.#options.runner.isOpen(id)) this.#options.runner.close(id);
    this.#dropRemovedAdapters();
  }

  #addAdapter(version: string, adapter: DecodedAdapter): void {
    this.#removedAdapters.delete(version);
    try {
      if (!this.#options.runner.hasAdapter(version)) this.#options.runner.addAdapter(version, adapter);
      this.#options.post({ type: "adapter-added", version });
    } catch (error) {
      const message = `the engine could not take the adapter: ${error instanceof Error ? error.message : String(error)}`;
      this.#options.post({ type: "adapter-failed", version, code: "adapter_load_failed", message });
    }
  }

  #dropRemovedAdapters(): void {
    if (this.#removedAdapters.size === 0) return;
    const used = new Set([...this.#sequences.values()].map(({ request }) => request.adapterVersion));
    for (const version of this.#removedAdapters) {
      if (used.has(version)) continue;
      this.#options.runner.removeAdapter(version);
      this.#removedAdapters.delete(version);
    }
  }

  #reportStats(): void {
    this.#statsSentMs = performance.now();
    this.#options.post({ type: "stats", stats: this.stats() });
  }

  stats(): EngineStats {
    const { runner } = this.#options;
    const device = runner.stats();
    const sequences = [...this.#sequences.values()];
    const waiting = sequences.filter(({ state }) => state === "waiting");
    const running = sequences.filter(({ state }) => state !== "waiting");
    return {
      running: running.length,
      waiting: waiting.length,
      kvTokensUsed: device.kvTokensUsed,
      kvTokensCapacity: runner.maxRows * runner.maxContext,
      runningAdapters: adaptersOf(running),
      waitingAdapters: adaptersOf(waiting),
      residentAdapters: device.residentAdapters,
      steps: this.#steps,
      stepSeconds: this.#stepMs / 1000,
      sessionSeconds: device.sessionMs / 1000,
      slotLoads: device.slotLoads,
      slotEvictions: device.slotEvictions,
    };
  }
}

function adaptersOf(sequences: readonly Sequence[]): string[] {
  return [...new Set(sequences.flatMap(({ request }) => request.adapterVersion ?? []))];
}

function rowsOf(logits: Logits): Float32Array[] {
  return Array.from({ length: logits.count }, (_, row) =>
    logits.data.subarray(row * logits.vocabSize, (row + 1) * logits.vocabSize),
  );
}
