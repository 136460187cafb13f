// The engine's thread: opens the base model on a device, then hands every message to the loop.

import { availableParallelism } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import { Trainer } from "../finetuning/trainer.ts";
import { TrainingJob } from "../finetuning/training-job.ts";
import { jobMemory } from "../finetuning/training-memory.ts";
import { type BaseModel, describeCheckpoint } from "../kernels/base-model.ts";
import { checkInvariance } from "../kernels/cpu/invariance-check.ts";
import { prefixBlockTokens } from "../kernels/cpu/prefix-cache.ts";
import { CpuProbes } from "../kernels/cpu/probes.ts";
import { openDevice } from "../kernels/devices/index.ts";
import { CotenantError } from "../kernels/errors.ts";
import { adapterTargets } from "../kernels/model-family.ts";
import { TrainingKernel, untrainable } from "../kernels/training/training-kernel.ts";
import { contextFor } from "./context-length.ts";
import { EngineLoop } from "./loop.ts";
import type { EngineOptions, FromEngine, ServedModel, ToEngine } from "./protocol.ts";
import { transfersOf } from "./transfers.ts";

const port = parentPort!;
const post = (message: FromEngine) => port.postMessage(message, transfersOf(message));

const promptTokensPerStep = 512;

try {
  await serve(workerData as EngineOptions);
} catch (error) {
  fail(error);
}

function fail(error: unknown): void {
  const code = error instanceof CotenantError ? error.code : "engine_failed";
  post({ type: "failed", code, message: error instanceof Error ? error.message : String(error) });
  port.close();
}

async function serve(options: EngineOptions): Promise<void> {
  const { modelDirectory, cacheDirectory, quantize, threads, maxRows } = options;
  const { maxKvBytes, prefixCacheBytes } = options.scheduling;
  const maxContext = contextFor(options.maxContext, describeCheckpoint(modelDirectory).config);
  const { base, runner, trainable, name, note, failure } = await openDevice(options.device, {
    model: {
      modelDirectory,
      cacheDirectory,
      encoding: quantize === "none" ? "float32" : quantize,
      threads,
      onProgress: throttled((stage, done, total) => post({ type: "progress", stage, done, total })),
    },
    maxRows,
    maxContext,
    maxKvBytes,
    prefixCacheBytes,
  });
  const { vocabSize } = base.config;
  const targets = adapterTargets(base.config);
  if (options.scheduling.batchInvariant) await checkInvariance(runner, { targets, vocabSize });
  const trainer = trainable === null ? null : openTrainer(trainable, options);
  const loop = new EngineLoop({
    runner,
    ...(trainer === null ? {} : { trainer }),
    scheduling: options.scheduling,
    chunkTokens: prefixBlockTokens, // so that a cached block is what a chunk computes
    promptTokensPerStep,
    eosTokenIds: base.eosTokenIds,
    vocabSize,
    post,
  });
  port.on("message", async (message: ToEngine) => {
    loop.receive(message);
    if (message.type !== "close") return;
    await loop.idle();
    await trainer?.close();
    await runner.dispose();
    port.close();
  });
  const { config, fingerprint, eosTokenIds } = base;
  const model: ServedModel = {
    family: config.family,
    device: name,
    deviceNote: note,
    quantization: quantize,
    fingerprint,
    vocabSize: config.vocabSize,
    layers: config.layers,
    maxContext,
    maxRows,
    maxQueue: Math.min(options.scheduling.maxQueue, options.scheduling.maxQueuePerTenant),
    eosTokenIds,
    targets,
    untrainable:
      trainable === null
        ? `--device ${name} does not finetune yet; start with --device cpu`
        : untrainable(trainable),
  };
  post({ type: "ready", model });
  failure.catch(fail);
}

function openTrainer(base: BaseModel, { threads, scheduling }: EngineOptions): Trainer<TrainingKernel> {
  const targets = adapterTargets(base.config);
  const probes = new CpuProbes(base);
  return new Trainer({
    memoryBytes: scheduling.trainingMemoryBytes,
    memoryOf: (job) => jobMemory(job, targets).bytes,
    openKernel: () =>
      TrainingKernel.open(base, { threads: threads === 0 ? availableParallelism() : threads }),
    openJob: (start, { kernel, report }) => new TrainingJob(start, { kernel, probes, targets, report }),
  });
}

type Report = (stage: string, done: number, total: number) => void;

/** At most ten reports a second, and the last of each stage. */
function throttled(report: Report): Report {
  let lastMs = 0;
  return (stage, done, total) => {
    if (done < total && performance.now() - lastMs < 100) return;
    lastMs = performance.now();
    report(stage, done, total);
  };
}
