// The loop that owns all scheduling state: plan, run, postprocess, report. It talks to a device through
// ModelRunner and to the outside through the messages of protocol.ts.

import { KvMemoryError } from "../kernels/errors.ts";
import type { ModelRunner } from "../kernels/model-runner.ts";
import { engineStats } from "./engine-stats.ts";
import { HeldAdapters } from "./held-adapters.ts";
import { MeasuredRuns } from "./measured-runs.ts";
import { planStep, type StepPlan } from "./plan-step.ts";
import { schedulingPolicies } from "./policies/index.ts";
import type { EngineStats, FromEngine, GenerationEvent, GenerationRequest, ToEngine } from "./protocol.ts";
import { queueRefusal } from "./queue-limits.ts";
import { checkRequest, type Refusal } from "./request-check.ts";
import { maxAdaptersOf, type SchedulingOptions } from "./scheduling-options.ts";
import type { Snapshot } from "./scheduling-policy.ts";
import type { Sequence } from "./sequence.ts";
import { SequenceTable } from "./sequence-table.ts";
import { type ServingOutlook, servingOutlook } from "./training-allowance.ts";
import { TrainingTurns, type UnitSource } from "./training-turns.ts";

export type LoopOptions = {
  readonly runner: ModelRunner;
  readonly scheduling: SchedulingOptions;
  readonly chunkTokens: number; // where every prompt is cut
  readonly promptTokensPerStep: number; // at most
  readonly eosTokenIds: readonly number[];
  readonly vocabSize: number;
  readonly post: (message: FromEngine) => void;
  readonly trainer?: UnitSource; // of finetuning jobs, whose units run between steps
};

/** What an engine reads at most of prompts in a step. */
export const promptTokensPerStep = 512;

const statsIntervalMs = 100;
const usualOutputTokens = 128; // until some requests have ended
const newestShare = 0.05; // of the newest request in the usual number of output tokens

export class EngineLoop {
  readonly #options: LoopOptions;
  readonly #table: SequenceTable;
  readonly #adapters: HeldAdapters;
  readonly #runs: MeasuredRuns;
  readonly #training: TrainingTurns;
  #events: [string, GenerationEvent][] = [];
  #running: Promise<void> | null = null;
  readonly #inbox: ToEngine[] = [];
  #closed = false;
  #steps = 0;
  #stepMs = 0;
  #statsSentMs = 0;
  #outputTokens = usualOutputTokens;
  #refusedForLoad = 0;
  #timedOut = 0;
  #lateFirstTokens = 0;
  #promptTokensPerStep = 0;

  constructor(options: LoopOptions) {
    this.#options = options;
    this.#adapters = new HeldAdapters(options.runner);
    this.#runs = new MeasuredRuns(options.runner, this.#adapters);
    const { ttftTargetMs, tpotTargetMs, sharePrefixes, trainingShare } = options.scheduling;
    const { trainer = null, post } = options;
    this.#training = new TrainingTurns({ trainer, share: trainingShare, post });
    this.#table = new SequenceTable({
      ...options,
      sharePrefixes,
      maxAdapters: this.#maxAdapters,
      targets: { ttftMs: ttftTargetMs, tpotMs: tpotTargetMs },
    });
  }

  get #maxAdapters(): number {
    const { scheduling, runner } = this.#options;
    return maxAdaptersOf(scheduling, runner.maxRows);
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
    while ((this.#table.size > 0 || this.#training.next() !== null) && !this.#closed) {
      const isStep = await this.#turn();
      const ms = performance.now() - start; // from turn to turn: messages and reports are in it
      start = performance.now();
      if (isStep) this.#countStep(ms);
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
        return this.#options.post(this.#adapters.add(message.version, message.adapter));
      case "remove-adapter":
        return this.#options.post(this.#adapters.remove(message.version, this.#table.all()));
      case "start-training":
      case "pause-training":
      case "drop-training":
      case "checkpoint-taken":
        return this.#training.receive(message);
      case "close":
        this.#closed = true;
        return;
      default:
        message satisfies never;
    }
  }

  /** A unit of finetuning, or else a step of serving: true. */
  async #turn(): Promise<boolean> {
    const startMs = performance.now();
    this.#expire(startMs);
    const snapshot = this.#table.snapshot();
    const plan = this.#plan(snapshot);
    const unit = this.#training.next();
    const isServing = snapshot.sequences.length > 0;
    if (unit !== null && (!isServing || this.#training.comesFirst(unit, this.#outlook(snapshot, plan)))) {
      await this.#training.run(unit, isServing);
      return false;
    }
    await this.#step(plan, startMs);
    return true;
  }

  #outlook(snapshot: Snapshot, plan: StepPlan): ServingOutlook {
    const bytesOf = (version: string) => this.#adapters.bytesOf(version);
    return servingOutlook(snapshot, plan, { latency: this.#runs.latency, bytesOf });
  }

  #countStep(ms: number): void {
    this.#steps++;
    this.#stepMs += ms;
    if (this.#training.next() !== null) this.#training.deferred(ms);
  }

  async #step(plan: StepPlan, startMs: number): Promise<void> {
    for (const id of plan.preempt) this.#table.preempt(this.#table.get(id)!);
    await this.#decode(plan.decode);
    if (plan.prefill.length > 0) this.#reportEvents(); // the tokens that are there need not wait for prompts
    const isBesideDecode = plan.decode.length > 0;
    const endMs = isBesideDecode ? startMs + this.#options.scheduling.tpotTargetMs : Number.POSITIVE_INFINITY;
    await this.#prefill(plan.prefill, endMs);
  }

  #plan(snapshot: Snapshot): StepPlan {
    const { scheduling, promptTokensPerStep, chunkTokens } = this.#options;
    const plan = planStep(schedulingPolicies[scheduling.policy], snapshot, {
      tokens: promptTokensPerStep,
      latency: this.#runs.latency,
      bytesOf: (version) => this.#adapters.bytesOf(version),
    });
    if (plan.decode.length > 0 && plan.prefill.length > 0) {
      this.#promptTokensPerStep = plan.prefill.reduce((sum, { chunks }) => sum + chunks * chunkTokens, 0);
    }
    return plan;
  }

  async #decode(ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return;
    const sequences = ids.map((id) => this.#table.get(id)!);
    const logits = await this.#attempt(sequences, () => this.#runs.decode(sequences));
    for (const [index, row] of logits?.entries() ?? []) {
      const sequence = sequences[index]!;
      this.#emit(sequence, sequence.take(row));
    }
  }

  /** Stops before a chunk that would begin after `endMs`; the first one is never too late. */
  async #prefill(planned: StepPlan["prefill"], endMs: number): Promise<void> {
    let isFirst = true;
    for (const { id, chunks } of planned) {
      for (let chunk = 0; chunk < chunks; chunk++) {
        if (!isFirst && performance.now() >= endMs) return;
        isFirst = false;
        const sequence = this.#table.get(id);
        if (sequence === undefined || sequence.state === "decoding") break;
        if (!(await this.#prefillChunk(sequence))) break;
        this.#reportEvents();
      }
    }
  }

  /** False where the chunk did not run. */
  async #prefillChunk(sequence: Sequence): Promise<boolean> {
    const done = await this.#attempt([sequence], () => {
      if (sequence.state === "waiting") this.#emit(sequence, this.#table.start(sequence));
      return this.#runs.prefill(sequence);
    });
    if (done === null) return false;
    this.#emit(sequence, sequence.chunkDone(done.tokens, done.logits, done.divergences));
    return true;
  }

  /**
   * A failed run ends the sequences that were in it, and nothing else. One that found no memory for keys and values
   * has changed nothing: where others hold rows, the last of its sequences gives its own back and waits.
   */
  async #attempt<Result>(sequences: readonly Sequence[], run: () => Promise<Result>): Promise<Result | null> {
    try {
      return await run();
    } catch (error) {
      const holders = this.#table.all().filter(({ state }) => state !== "waiting");
      const last = sequences.at(-1)!;
      if (error instanceof KvMemoryError && holders.some((holder) => holder !== last)) {
        if (last.state !== "waiting") this.#table.preempt(last);
        return null;
      }
      const message = `the engine's step failed: ${error instanceof Error ? error.message : String(error)}`;
      for (const sequence of sequences) {
        this.#end(sequence, { code: "engine_step_failed", message, retryAfterMs: null });
      }
      return null;
    }
  }

  #emit(sequence: Sequence, events: readonly GenerationEvent[]): void {
    for (const event of events) {
      this.#events.push([sequence.request.id, event]);
      if (event.type === "token" && sequence.generatedTokens === 1) this.#checkFirstToken(sequence);
    }
    this.#table.charge(sequence);
    if (sequence.state !== "finished") return;
    this.#outputTokens += newestShare * (sequence.generatedTokens - this.#outputTokens);
    this.#leave(sequence);
  }

  #checkFirstToken({ arrivedMs }: Sequence): void {
    if (performance.now() - arrivedMs > this.#options.scheduling.ttftTargetMs) this.#lateFirstTokens++;
  }

  #report(): void {
    this.#reportEvents();
    if (performance.now() - this.#statsSentMs >= statsIntervalMs) this.#reportStats();
  }

  #reportEvents(): void {
    if (this.#events.length === 0) return;
    this.#options.post({ type: "events", events: this.#events });
    this.#events = [];
  }

  #submit(request: GenerationRequest): void {
    const refusal = this.#whyNot(request);
    if (refusal === null) return this.#table.enter(request);
    if (refusal.code === "queue_full") this.#refusedForLoad++;
    this.#options.post({ type: "refused", id: request.id, ...refusal });
  }

  #whyNot(request: GenerationRequest): Refusal | null {
    const { runner, vocabSize, scheduling, chunkTokens } = this.#options;
    if (this.#table.get(request.id) !== undefined) {
      const message = `request ${request.id} is already running; give each its own id`;
      return { code: "duplicate_request", message, retryAfterMs: null };
    }
    const isKnown = (version: string) => this.#adapters.isKnown(version);
    const limits = { ...scheduling, maxRows: runner.maxRows };
    const forecast = { latency: this.#runs.latency, chunkTokens, outputTokens: this.#outputTokens };
    return (
      checkRequest(request, { runner, vocabSize, isKnown, maxAdapters: this.#maxAdapters }) ??
      queueRefusal(request, this.#table.all(), { limits, forecast })
    );
  }

  #cancel(id: string): void {
    const sequence = this.#table.get(id);
    if (sequence !== undefined) this.#leave(sequence); // else it finished while the message was under way
  }

  #expire(nowMs: number): void {
    for (const sequence of this.#table.all()) {
      const { expiresMs } = sequence;
      if (expiresMs === null || expiresMs > nowMs) continue;
      this.#timedOut++;
      const message = "the request did not end within its timeout_ms; raise it, or lower max_tokens";
      this.#end(sequence, { code: "request_timed_out", message, retryAfterMs: null });
    }
  }

  /** What the sequence has made until now is delivered before its end. */
  #end(sequence: Sequence, refusal: Refusal): void {
    this.#reportEvents();
    this.#options.post({ type: "refused", id: sequence.request.id, ...refusal });
    this.#leave(sequence);
  }

  #leave(sequence: Sequence): void {
    this.#table.leave(sequence);
    this.#adapters.dropUnused(this.#table.all());
  }

  #reportStats(): void {
    this.#statsSentMs = performance.now();
    this.#options.post({ type: "stats", stats: this.stats() });
  }

  stats(): EngineStats {
    return engineStats(this.#options.runner, this.#table, {
      steps: this.#steps,
      stepSeconds: this.#stepMs / 1000,
      refusedForLoad: this.#refusedForLoad,
      timedOut: this.#timedOut,
      lateFirstTokens: this.#lateFirstTokens,
      latencyErrors: this.#runs.latency.errors,
      promptTokensPerStep: this.#promptTokensPerStep,
      training: this.#training.stats(),
    });
  }
}
