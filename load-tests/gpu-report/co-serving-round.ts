// Finetuning and serving in one engine on the device: what a job keeps of its speed while requests come at half of what
// the engine can serve, and how many of them are in time.

import type { JobStart } from "../../finetuning/job.ts";
import { type AdapterTargets, projections } from "../../kernels/adapter.ts";
import type { EngineOptions } from "../../scheduler/protocol.ts";
import { defaultScheduling } from "../../scheduler/scheduling-options.ts";
import { type BenchSetting, requestOf } from "../bench/bench-setting.ts";
import { openEngine } from "../bench/engine-side.ts";
import { loraSpec, randomJob } from "../load/random-job.ts";
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

/** A step is all of its sequences, of which the later half is scored, in windows as large as a unit may take. */
function jobOf({ vocabSize }: AdapterTargets, { trained, rank }: ReportPlan): JobStart {
  const tokens = trained.reduce((sum, length) => sum + length, 0);
  const sizes = { batchSize: trained.length, passTokens: tokens, windowTokens: tokens };
  const scored = (length: number) => Math.floor(length / 2);
  return randomJob(loraSpec({ rank }, sizes), { vocabSize, lengths: trained, scored });
}
