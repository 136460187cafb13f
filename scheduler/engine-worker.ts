// The engine's thread: opens the base model on a device, then hands every message to the loop.

import { parentPort, workerData } from "node:worker_threads";
import { describeCheckpoint } from "../kernels/base-model.ts";
import { checkInvariance } from "../kernels/cpu/invariance-check.ts";
import { prefixBlockTokens } from "../kernels/cpu/prefix-cache.ts";
import { openDevice } from "../kernels/devices/index.ts";
import { CotenantError } from "../kernels/errors.ts";
import { adapterTargets } from "../kernels/model-family.ts";
import { contextFor } from "./context-length.ts";
import { EngineLoop, promptTokensPerStep } from "./loop.ts";
import { openTrainer } from "./open-trainer.ts";
import type { EngineOptions, FromEngine, ServedModel, ToEngine } from "./protocol.ts";
import { encodings } from "./quantization.ts";
import { transfersOf } from "./transfers.ts";

const port = parentPort!;
const post = (message: FromEngine) => port.postMessage(message, transfersOf(message));

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
  const { modelDirectory, cacheDirectory, quantize, threads, plainGraphBytes, maxRows } = options;
  const { maxKvBytes, prefixCacheBytes } = options.scheduling;
  const maxContext = contextFor(options.maxContext, describeCheckpoint(modelDirectory).config);
  const device = await openDevice(options.device, {
    model: {
      modelDirectory,
      cacheDirectory,
      encoding: encodings[quantize],
      threads,
      plainGraphBytes,
      onProgress: throttled((stage, done, total) => post({ type: "progress", stage, done, total })),
    },
    maxRows,
    maxContext,
    maxKvBytes,
    prefixCacheBytes,
  });
  const { base, runner, training, name, note, failure } = device;
  const { vocabSize } = base.config;
  const targets = adapterTargets(base.config);
  if (options.scheduling.batchInvariant) await checkInvariance(runner, { targets, vocabSize });
  const trainer = openTrainer(device, options.scheduling);
  const loop = new EngineLoop({
    runner,
    trainer,
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
    await trainer.close();
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
    untrainable: training.problem,
    trainingPrecisions: training.precisions,
    trainingBaseBytes: training.baseBytes,
  };
  post({ type: "ready", model });
  failure.catch(fail);
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
