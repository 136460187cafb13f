// Finetuning and serving in one engine on the device: what a job keeps of its speed while requests come at half of what
// the engine can serve, and how many of them are in time.

import type { JobStart } from "../../finetuning/job.ts";
import { optimizers } from "../../finetuning/optimizers/index.ts";
import { type AdapterTargets, projections } from "../../kernels/adapter.ts";
import type { EngineOptions } from "../../scheduler/protocol.ts";
import { defaultScheduling } from "../../scheduler/scheduling-options.ts";
import { type BenchSetting, requestOf } from "../bench/bench-setting.ts";
import { openEngine } from "../bench/engine-side.ts";
import { Random } from "../load/random.ts";
import { Summary } from "../load/summary.ts";
import { median, type ReportPlan } from "./report-plan.ts";
import { ServingLoad } from "./serving-load.ts";
import { SteppingJob } from "./stepping-job.ts";

export type CoServingRound = {
  readonly rows: number; // as many different adapters, in rows that are all taken where the capacity is measured
  readonly capacity: number; // requests per second, nobody trains
  readonly trainingAlone: number; // tokens per second, as is the next one
  readonly trainingBeside: number;
  readonly trainingShare: number;
  readonly requests: number; // beside the training
  readonly inTime: number; // share of them
  readonly ttftP99Ms: number;
  readonly tpotP99Ms: number;
};

export type CoServingOptions = Pick<EngineOptions, "modelDirectory" | "cacheDirectory" | "quantize">;

/** Of its capacity: where FlexLLM (arXiv 2402.18789) states its figure. */
const load = 0.5;

export async function coServingRound(
  options: CoServingOptions,
  plan: ReportPlan,
): Promise<CoServingRound | { readonly reason: string }> {
  const { rows, output, requestsPerClient, requests, rounds, ttftMs, tpotMs } = plan.coServing;
  const setting = settingOf(options, plan);
  const engine = await openEngine(setting, {
    device: "webgpu",
    maxContext: setting.past + setting.steps,
    scheduling: {
      ...defaultScheduling,
      prefixCacheBytes: 0,
      ttftTargetMs: ttftMs,
      tpotTargetMs: tpotMs,
      trainingMemoryBytes: Number.MAX_SAFE_INTEGER, // what does not fit on the device says so itself
    },
  });
  const { targets, untrainable } = engine.model;
  try {
    if (untrainable !== null) return { reason: untrainable };
    const serving = new ServingLoad(engine, (index) => requestOf(setting, index, output));
    await serving.closed(rows, 1); // the first one compiles
    const capacity = await serving.closed(rows, requestsPerClient);
    const windowMs = (requests * 1000) / (load * capacity);

    const job = new SteppingJob(engine, jobOf(targets, plan));
    const speeds: { readonly alone: number; readonly beside: number }[] = [];
    const served = new Summary({ ttftMs, tpotMs });
    await job.step(); // the first one compiles
    for (let round = 0; round < rounds; round++) {
      const alone = await job.throughput(windowMs);
      const arrivals = { requestsPerSecond: load * capacity, seed: round };
      const { result: beside, records } = await serving.open(arrivals, () => job.throughput(windowMs));
      served.add(records, { fromMs: 0, toMs: Number.POSITIVE_INFINITY });
      speeds.push({ alone, beside });
    }
    await job.drop();

    const [alone, beside] = [median(speeds.map((one) => one.alone)), median(speeds.map((one) => one.beside))];
    const { goodput, ttftMs: ttft, tpotMs: tpot, requests: sent } = served.figures();
    return {
      rows,
      capacity,
      trainingAlone: alone,
      trainingBeside: beside,
      trainingShare: beside / alone,
      requests: sent,
      inTime: goodput.share,
      ttftP99Ms: ttft.p99,
      tpotP99Ms: tpot.p99,
    };
  } finally {
    await engine.close();
  }
}

function settingOf(
  { modelDirectory, cacheDirectory, quantize }: CoServingOptions,
  { rank, coServing: { rows, prompt, output } }: ReportPlan,
): BenchSetting {
  const adapters = { adapters: rows, rank, projections };
  const work = { rows, past: prompt, steps: output, threads: 0 };
  return { model: modelDirectory, cache: cacheDirectory, quantize, ...work, ...adapters };
}

/** LoRA on all projections; of each sequence the later half is scored. */
function jobOf({ vocabSize }: AdapterTargets, { trained, rank }: ReportPlan): JobStart {
  const random = new Random(1);
  const tokens = trained.reduce((sum, length) => sum + length, 0);
  const scored = trained.flatMap((length) =>
    Array.from({ length }, (_, at) => (at >= Math.max(1, length / 2) ? 1 : 0)),
  );
  let end = 0;
  return {
    id: "job",
    tenant: { id: "trainer", weight: 1 },
    spec: {
      method: { name: "lora", settings: { rank } },
      objective: { name: "cross-entropy", beta: 0 },
      optimizer: { name: "adamw", settings: optimizers.adamw.defaults },
      schedule: "constant",
      warmupSteps: 0,
      learningRate: 1e-5,
      epochs: 1e6, // until it is dropped
      batchSize: trained.length,
      passTokens: tokens,
      windowTokens: tokens, // or what a unit may take at most
      precision: "float32",
      maxGradientNorm: 1,
      maxSkippedSteps: 3,
      checkpointSteps: 1e6,
      seed: 1,
    },
    training: {
      tokenIds: Int32Array.from(scored, () => random.below(vocabSize)),
      weights: Float32Array.from(scored),
      ends: Int32Array.from(trained, (length) => {
        end += length;
        return end;
      }),
    },
    validation: null,
    from: null,
    checkpoint: null,
  };
}
