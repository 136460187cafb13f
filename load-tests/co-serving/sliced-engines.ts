// Engines of one process that take turns, each with its load: what is measured beside each other on servers, without
// HTTP and client, but so that other machines' work on the same processor slows all of it alike, and what they take away
// is in no figure.

import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JobStart } from "../../finetuning/job.ts";
import { defaultWindowTokens } from "../../finetuning/largest-window.ts";
import type { Trainer } from "../../finetuning/trainer.ts";
import { prefixBlockTokens } from "../../kernels/cpu/prefix-cache.ts";
import type { OpenedDevice } from "../../kernels/device.ts";
import { openCpu } from "../../kernels/devices/cpu.ts";
import { greedySampling } from "../../kernels/sampling/sampler.ts";
import type { TrainingKernel } from "../../kernels/training/training-kernel.ts";
import { EngineLoop, promptTokensPerStep } from "../../scheduler/loop.ts";
import { openTrainer } from "../../scheduler/open-trainer.ts";
import type { FromEngine } from "../../scheduler/protocol.ts";
import { encodings } from "../../scheduler/quantization.ts";
import { defaultScheduling } from "../../scheduler/scheduling-options.ts";
import { Random } from "../load/random.ts";
import { loraSpec, randomJob } from "../load/random-job.ts";
import type { RequestRecord } from "../load/request-record.ts";
import { clockOfHadTime } from "../load/stolen-time.ts";
import type { Window } from "../load/summary.ts";
import { unitsBetween } from "../load/training-work.ts";
import { type Counters, jobSizes, type Measured, type Setting } from "./measured-host.ts";
import type { Round } from "./shares.ts";
import { Lane, SlicedTime } from "./sliced-time.ts";

/** One round of all loads, with one measurement of what is alone. @param loads of the serving capacity, in shares */
export async function measureSliced(
  setting: Setting,
  loads: readonly number[],
): Promise<ReadonlyMap<number, Round>> {
  const time = new SlicedTime(clockOfHadTime());
  const engine = async (requests: Requests, trains: boolean) =>
    new SlicedEngine({ setting, device: await openEngineDevice(setting), time, requests, trains });
  const capacity = await engine({ kind: "closed", clients: setting.rows }, false);
  const solo = await engine({ kind: "none" }, true);
  const perSecond = (load: number) => () => (load * capacity.tokensPerSecond) / setting.outputTokens;
  const parts: { load: number; serving: SlicedEngine; both: SlicedEngine }[] = [];
  for (const load of loads) {
    const requests = { kind: "poisson", perSecond: perSecond(load), seed: 100 * load } as const;
    parts.push({ load, serving: await engine(requests, false), both: await engine(requests, true) });
  }
  const engines = [capacity, solo, ...parts.flatMap(({ serving, both }) => [serving, both])];
  const rampMs = setting.outputTokens * setting.slo.tpotMs; // before that requests come and none goes
  for (const one of engines) await one.start();
  await time.takeTurns([capacity.lane], () => capacity.lane.ms >= rampMs); // loads are shares of what it serves
  const lanes = engines.map(({ lane }) => lane);
  const fromMs = time.align(lanes) + rampMs;
  const window = { fromMs, toMs: fromMs + setting.seconds * 1000 };
  for (const one of engines) one.measure(window);
  await time.takeTurns(lanes, () => lanes.every(({ ms }) => ms >= window.toMs));
  for (const one of engines) await one.drain();
  const alone = { capacity: [capacity.measured()], solo: [solo.measured()], apart: [] };
  const rounds = parts.map(({ load, serving, both }) => {
    return [load, { ...alone, serving: [serving.measured()], both: [both.measured()] }] as const;
  });
  for (const one of engines) await one.close();
  return new Map(rounds);
}

/** Each engine has its own, as servers have. */
function openEngineDevice({ model, quantize, rows, promptTokens, outputTokens }: Setting) {
  return openCpu({
    model: {
      modelDirectory: model,
      cacheDirectory: join(tmpdir(), "cotenant-bench-cache"),
      encoding: encodings[quantize],
      threads: 0,
      onProgress: () => {},
    },
    maxRows: rows,
    maxContext: 2 * (promptTokens + outputTokens),
    maxKvBytes: 0,
    prefixCacheBytes: 0, // no prompt comes twice
  });
}

type Requests =
  | { readonly kind: "none" }
  | { readonly kind: "closed"; readonly clients: number }
  | { readonly kind: "poisson"; readonly perSecond: () => number; readonly seed: number };

type EngineParts = {
  readonly setting: Setting;
  readonly device: OpenedDevice;
  readonly time: SlicedTime;
  readonly requests: Requests;
  readonly trains: boolean;
};

type Answer = { readonly dueMs: number; readonly chunkMs: number[]; endedMs: number | null };

class SlicedEngine {
  readonly lane: Lane;
  readonly #parts: EngineParts;
  readonly #loop: EngineLoop;
  readonly #trainer: Trainer<TrainingKernel>;
  readonly #random: Random;
  readonly #answers = new Map<string, Answer>();
  #nextMs = Number.POSITIVE_INFINITY; // when a request comes
  #window: Window | null = null;
  #counters: { before: Counters | null; after: Counters | null } = { before: null, after: null };

  constructor(parts: EngineParts) {
    this.#parts = parts;
    const { device, setting, requests, trains } = parts;
    const { base, runner } = device;
    this.#random = new Random(requests.kind === "poisson" ? requests.seed : 0);
    this.lane = new Lane(
      () => this.#onTime(),
      () => (trains || this.#nextMs === Number.POSITIVE_INFINITY ? null : this.#nextMs),
    );
    const { ttftMs: ttftTargetMs, tpotMs: tpotTargetMs } = setting.slo;
    const scheduling = { ...defaultScheduling, ttftTargetMs, tpotTargetMs };
    this.#trainer = openTrainer(device, scheduling);
    this.#loop = new EngineLoop({
      runner,
      trainer: this.#trainer,
      scheduling,
      chunkTokens: prefixBlockTokens,
      promptTokensPerStep,
      eosTokenIds: base.eosTokenIds,
      vocabSize: base.config.vocabSize,
      post: (message) => this.#hear(message),
    });
  }

  /** Answered tokens in a second of its turns. */
  get tokensPerSecond(): number {
    const tokens = [...this.#answers.values()].reduce((sum, { chunkMs }) => sum + chunkMs.length, 0);
    return (1000 * tokens) / this.lane.ranMs;
  }

  /** Requests of a closed loop come. Resolves when its job has done a step: the kernel is open. */
  async start(): Promise<void> {
    const { trains, time, requests, device } = this.#parts;
    if (requests.kind === "closed") {
      time.begin(this.lane, () => {
        for (let client = 0; client < requests.clients; client++) this.#ask(0);
      });
    }
    if (!trains) return;
    const job = jobOf(device.base.config.vocabSize);
    time.begin(this.lane, () => this.#loop.receive({ type: "start-training", run: 1, job }));
    await time.takeTurns([this.lane], () => this.#loop.stats().training.steps > 0);
  }

  /** Requests of an open loop come. */
  measure(window: Window): void {
    this.#window = window;
    const { requests, time } = this.#parts;
    if (requests.kind === "poisson") this.#nextMs = time.nowMs(this.lane) + this.#gapMs(requests);
  }

  measured(): Measured {
    const { before, after } = this.#counters;
    const spent = {
      seconds: after!.seconds - before!.seconds,
      tokens: after!.tokens - before!.tokens,
      busySeconds: after!.busySeconds - before!.busySeconds,
      units: unitsBetween(before!.units, after!.units),
    };
    const records = [...this.#answers.values()].map((answer) => this.#recordOf(answer));
    return { spent, records, window: this.#window!, stolen: 0 };
  }

  /** No more requests come. Resolves when those of an open loop have their answers: they are judged as well. */
  async drain(): Promise<void> {
    this.#nextMs = Number.POSITIVE_INFINITY;
    if (this.#parts.requests.kind !== "poisson") return;
    const isDone = () => [...this.#answers.values()].every(({ endedMs }) => endedMs !== null);
    await this.#parts.time.takeTurns([this.lane], isDone);
  }

  async close(): Promise<void> {
    this.#loop.receive({ type: "close" });
    await this.#parts.time.takeTurns([this.lane], () => this.lane.callbacks.length === 0);
    await this.#trainer.close();
    await this.#parts.device.runner.dispose();
  }

  #onTime(): void {
    const { requests, time } = this.#parts;
    const nowMs = time.nowMs(this.lane);
    while (requests.kind === "poisson" && this.#nextMs <= nowMs) {
      this.#ask(this.#nextMs);
      this.#nextMs += this.#gapMs(requests);
    }
    if (this.#window === null) return;
    if (nowMs >= this.#window.fromMs) this.#counters.before ??= this.#count();
    if (nowMs >= this.#window.toMs) this.#counters.after ??= this.#count();
  }

  #gapMs({ perSecond }: { readonly perSecond: () => number }): number {
    return (1000 * this.#random.exponential()) / perSecond();
  }

  #ask(dueMs: number): void {
    const { setting, device } = this.#parts;
    const id = `${this.#answers.size}`;
    this.#answers.set(id, { dueMs, chunkMs: [], endedMs: null });
    const { vocabSize } = device.base.config;
    this.#loop.receive({
      type: "submit",
      request: {
        id,
        tenant: { id: "default", weight: 1, rowsAtOnce: null },
        priority: 0,
        timeoutMs: null,
        promptTokenIds: Array.from({ length: setting.promptTokens }, () => this.#random.below(vocabSize)),
        adapterVersion: null,
        blend: null,
        sampling: { ...greedySampling, temperature: 1, seed: this.#answers.size },
        maxTokens: setting.outputTokens,
        minTokens: 0,
        stopTokenIds: [],
        ignoreEos: true,
        logprobs: null,
        promptLogprobs: null,
      },
    });
  }

  #hear(message: FromEngine): void {
    if (message.type === "refused") throw new Error(message.message);
    if (message.type === "training" && message.event.type === "failed")
      throw new Error(message.event.message);
    if (message.type !== "events") return;
    const nowMs = performance.now();
    for (const [id, { type }] of message.events) {
      const answer = this.#answers.get(id)!;
      if (type === "token") answer.chunkMs.push(nowMs);
      if (type !== "finished") continue;
      answer.endedMs = nowMs;
      if (this.#parts.requests.kind === "closed") this.#ask(nowMs);
    }
  }

  #count(): Counters {
    const { stepSeconds, training } = this.#loop.stats();
    return {
      seconds: performance.now() / 1000,
      tokens: training.tokens,
      busySeconds: stepSeconds,
      units: new Map(Object.entries(training.units)),
    };
  }

  #recordOf({ dueMs, chunkMs, endedMs }: Answer): RequestRecord {
    return {
      stream: 0,
      tenant: "default",
      model: "base",
      dueMs,
      sentMs: dueMs,
      endedMs: endedMs ?? this.lane.ms,
      chunkMs: Float64Array.from(chunkMs),
      promptTokens: this.#parts.setting.promptTokens,
      outputTokens: chunkMs.length,
      outcome: endedMs === null ? "unfinished" : "finished",
      error: null,
    };
  }
}

const templateTokens = 8; // that the chat template adds to an example's prompt

/** As the tool's jobs on servers, with the pass and the windows of a job that says nothing of them. */
function jobOf(vocabSize: number): JobStart {
  const { examples, promptTokens, answerTokens, batchSize } = jobSizes;
  const length = templateTokens + promptTokens + answerTokens;
  return randomJob(loraSpec({}, { batchSize, passTokens: 512, windowTokens: defaultWindowTokens }), {
    vocabSize,
    lengths: Array.from({ length: examples }, () => length),
    scored: () => answerTokens,
  });
}
