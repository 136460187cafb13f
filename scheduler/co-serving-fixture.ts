// The loop with a trainer, on a clock that goes on by what runs take, for tests of finetuning beside requests.

import type { test } from "node:test";
import type { JobEvent, JobStart } from "../finetuning/job.ts";
import { Trainer } from "../finetuning/trainer.ts";
import type { TrainingUnit } from "../kernels/training/training-pass.ts";
import { HistoryRunner } from "./history-runner-fixture.ts";
import { EngineLoop } from "./loop.ts";
import type { FromEngine, GenerationRequest } from "./protocol.ts";
import { defaultScheduling, type SchedulingOptions } from "./scheduling-options.ts";

export type SceneOptions = {
  readonly units?: number; // of each job, each a step of its own
  readonly pauseUnits?: number; // of each pause
  readonly unitMs?: number | (() => number);
  readonly decodeMs?: number | ((rows: number) => number);
  readonly prefillMs?: number | ((tokens: number) => number); // as a decode step unless said
  readonly maxRows?: number;
  readonly scheduling?: Partial<SchedulingOptions>;
  readonly chunkTokens?: number;
  readonly fail?: (jobId: string) => void; // called by every unit
  readonly onTime?: (nowMs: number) => void; // the clock went on
};

/** The clock goes on by what runs take; between them no time passes. */
export function startScene(t: { mock: { method: typeof test.mock.method } }, options: SceneOptions = {}) {
  const {
    units = 20,
    pauseUnits = 0,
    unitMs = 10,
    decodeMs = 5,
    prefillMs = decodeMs,
    maxRows = 4,
  } = options;
  let nowMs = 0;
  const pass = (ms: number) => {
    nowMs += ms;
    options.onTime?.(nowMs);
  };
  const passUnit = () => pass(typeof unitMs === "number" ? unitMs : unitMs());
  t.mock.method(performance, "now", () => nowMs);
  const runner = new HistoryRunner({ maxRows, maxContext: 4096, kvTokens: 1e6 });
  const log: {
    readonly what: "unit" | "decode" | "prefill";
    readonly atMs: number;
    readonly job?: string;
  }[] = [];
  const timed = new Proxy(runner, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (name === "decode") {
        return (entries: Parameters<typeof runner.decode>[0]) => {
          log.push({ what: name, atMs: nowMs });
          pass(typeof decodeMs === "number" ? decodeMs : decodeMs(entries.length));
          return runner.decode(entries);
        };
      }
      if (name === "prefill") {
        return (chunk: Parameters<typeof runner.prefill>[0]) => {
          log.push({ what: name, atMs: nowMs });
          pass(typeof prefillMs === "number" ? prefillMs : prefillMs(chunk.tokenIds.length));
          return runner.prefill(chunk);
        };
      }
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  function* unitsOf(id: string, report: (event: JobEvent) => void): Generator<TrainingUnit, void, void> {
    report({ type: "started", steps: units, parameters: 1 });
    for (let step = 1; step <= units; step++) {
      const run = async () => {
        log.push({ what: "unit", atMs: nowMs, job: id });
        passUnit();
        options.fail?.(id);
      };
      yield { kind: "forward", tokens: 8, run };
      const rest = { loss: 1, metrics: {}, learningRate: 1, gradientNorm: null, skipped: false };
      report({ type: "step", step, tokens: 8, ...rest });
    }
    report({ type: "finished" });
  }
  const trainer = new Trainer({
    memoryBytes: 100,
    memoryOf: () => ({ bytes: 10, backward: true }),
    openKernel: async () => ({ keptBytesPerToken: 0, spend: () => {}, close: async () => {} }),
    openJob: ({ id }, { report }) => ({
      units: () => unitsOf(id, report),
      *pause() {
        for (let unit = 0; unit < pauseUnits; unit++) {
          const run = async () => {
            log.push({ what: "unit", atMs: nowMs, job: id });
            passUnit();
          };
          yield { kind: "update", tokens: 0, run };
        }
        report({ type: "paused", reason: null });
      },
    }),
  });
  const posted: FromEngine[] = [];
  const hooks: ((message: FromEngine) => void)[] = [];
  const loop = new EngineLoop({
    runner: timed,
    trainer,
    scheduling: { ...defaultScheduling, ...options.scheduling },
    chunkTokens: options.chunkTokens ?? 4,
    promptTokensPerStep: 4 * (options.chunkTokens ?? 4),
    eosTokenIds: [],
    vocabSize: runner.vocabSize,
    post(message) {
      posted.push(message);
      for (const hook of hooks) hook(message);
    },
  });
  let runs = 0;
  const train = (id: string, tenant = "tenant", weight = 1) => {
    const job = { id, tenant: { id: tenant, weight }, spec: { passTokens: 8 } } as JobStart;
    loop.receive({ type: "start-training", run: ++runs, job });
    return runs;
  };
  const submit = (request: GenerationRequest) => loop.receive({ type: "submit", request });
  const events = (run: number) =>
    posted.flatMap((message) =>
      message.type === "training" && message.run === run ? [message.event.type] : [],
    );
  const tokens = () =>
    posted.flatMap((message) =>
      message.type === "events"
        ? message.events.flatMap(([id, event]) => (event.type === "token" ? [`${id} ${event.tokenId}`] : []))
        : [],
    );
  const count = (what: string) => log.filter((one) => one.what === what).length;
  return { loop, train, submit, events, tokens, log, count, posted, hooks };
}
