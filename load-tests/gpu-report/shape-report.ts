// Everything that is measured of one model on the device, and what the goals make of it.

import { matrixBytes } from "../../kernels/base-memory.ts";
import { openBaseModel } from "../../kernels/base-model.ts";
import { CpuRunner } from "../../kernels/cpu/cpu-runner.ts";
import { bytesPerToken } from "../../kernels/cpu/kv-arena.ts";
import { openWebgpu } from "../../kernels/devices/webgpu.ts";
import { CotenantError } from "../../kernels/errors.ts";
import { adapterTargets } from "../../kernels/model-family.ts";
import type { Quantization } from "../../scheduler/protocol.ts";
import { encodings } from "../../scheduler/quantization.ts";
import { type CoServingRound, coServingRound } from "./co-serving-round.ts";
import { type Goal, goalRows, goalsOf } from "./goals.ts";
import { type PeftSide, peftSide } from "./peft-side.ts";
import type { ReportPlan } from "./report-plan.ts";
import {
  addAdapters,
  type DecodeRound,
  decodeRound,
  type Parity,
  parity,
  prefillRound,
  swapRound,
  versionOf,
} from "./runner-rounds.ts";
import { type TrainingRound, trainingRound } from "./training-round.ts";

export type ShapeOptions = {
  readonly modelDirectory: string;
  readonly cacheDirectory: string;
  readonly quantize: Quantization;
  readonly bandwidth: number; // bytes per second
  readonly python: string;
  readonly plan: ReportPlan;
};

export type ShapeReport = {
  readonly parity: Parity; // with this engine on the CPU
  readonly decode: readonly (DecodeRound & { readonly bandwidthShare: number })[];
  /** Of the base in f16, which the report is not of unless it is asked for. */
  readonly halves: DecodeRound | { readonly reason: string };
  readonly prefill: Readonly<Record<"base" | "adapter", number>>; // tokens per second
  readonly swapMs: number;
  readonly training: TrainingRound | { readonly reason: string };
  readonly coServing: CoServingRound | { readonly reason: string };
  readonly peft: PeftSide;
  readonly goals: readonly Goal[];
};

export async function shapeReport(options: ShapeOptions): Promise<ShapeReport> {
  const { modelDirectory, cacheDirectory, quantize, bandwidth, plan } = options;
  const encoding = encodings[quantize];
  const compared = await float32Parity(options);
  const opening = { modelDirectory, cacheDirectory, encoding, threads: 0, onProgress: () => undefined };
  const maxRows = Math.max(...plan.rows);
  const maxContext = plan.prompt + plan.past + plan.steps + 128;
  const limits = { maxRows, maxContext };
  const { base, runner, training } = await openWebgpu({
    model: opening,
    ...limits,
    maxKvBytes: 0,
    prefixCacheBytes: 0,
  });
  const { config } = base;
  const targets = adapterTargets(config);
  addAdapters(runner, targets, plan);
  const weights = matrixBytes({ config, encoding });
  const decode: ShapeReport["decode"][number][] = [];
  for (const rows of plan.rows) {
    for (const adapters of plan.adapters.filter((count) => count <= rows)) {
      const round = await decodeRound(runner, { rows, adapters }, plan);
      // What a step has to read at the least: weights once, and each row's keys and values.
      const bytes = weights + rows * (plan.past + plan.steps) * bytesPerToken(config);
      decode.push({ ...round, bandwidthShare: bytes / (round.msPerStep / 1000) / bandwidth });
    }
  }
  const prefill = {
    base: await prefillRound(runner, null, plan),
    adapter: await prefillRound(runner, versionOf(0), plan),
  };
  const swapMs = await swapRound(runner, targets, plan);
  const trained = await trainingRound(training, targets, plan);
  await runner.dispose();
  const halves = await halvesRound(options);
  const coServing = await coServingRound({ modelDirectory, cacheDirectory, quantize }, plan);
  const peft = peftSide(options.python, modelDirectory, plan);
  return {
    parity: compared,
    decode,
    halves,
    prefill,
    swapMs,
    training: trained ?? { reason: training.problem! },
    coServing,
    peft,
    goals: goalsOf({ rows: goalRows(plan), decode, peft, coServing }),
  };
}

/** What widening weights in every step costs. */
async function halvesRound(options: ShapeOptions): Promise<ShapeReport["halves"]> {
  const { modelDirectory, cacheDirectory, plan } = options;
  const rows = goalRows(plan);
  const opening = { modelDirectory, cacheDirectory, threads: 0, onProgress: () => undefined };
  const limits = {
    maxRows: rows,
    maxContext: plan.past + plan.steps + 128,
    maxKvBytes: 0,
    prefixCacheBytes: 0,
  };
  try {
    const { runner } = await openWebgpu({ model: { ...opening, encoding: "float16" }, ...limits });
    const round = await decodeRound(runner, { rows, adapters: 0 }, plan);
    await runner.dispose();
    return round;
  } catch (error) {
    if (!(error instanceof CotenantError && error.code === "float16_not_available")) throw error;
    return { reason: error.message };
  }
}

/** In float32, in which both compute the same: the CPU's int4 and int8 products round activations as well. */
async function float32Parity({ modelDirectory, cacheDirectory, plan }: ShapeOptions): Promise<Parity> {
  const opening = { modelDirectory, cacheDirectory, threads: 0, onProgress: () => undefined };
  const model = { ...opening, encoding: "float32" } as const;
  const limits = { maxRows: 1, maxContext: plan.past + plan.steps + 128 };
  const device = await openWebgpu({ model, ...limits, maxKvBytes: 0, prefixCacheBytes: 0 });
  const cpu = new CpuRunner(await openBaseModel(model), limits);
  for (const runner of [device.runner, cpu]) {
    addAdapters(runner, adapterTargets(device.base.config), { ...plan, adapters: [1] });
  }
  const found = await parity(device.runner, cpu, plan);
  await cpu.dispose();
  await device.runner.dispose();
  return found;
}
