// This engine's side of bench.ts, in a process of its own so that its peak memory is known. Reads its shape from the
// first argument (JSON), then for each line on stdin takes one step and answers with a line of JSON. Windows and memory
// are those that the server gives a job of this shape which has the memory for finetuning to itself.

import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { largestWindow } from "../../finetuning/largest-window.ts";
import { spareMemory } from "../../finetuning/spare-memory.ts";
import { trainingMemory } from "../../finetuning/training-memory.ts";
import { prepareBase } from "../../kernels/base-model.ts";
import { adapterTargets } from "../../kernels/model-family.ts";
import type { MatrixEncoding } from "../../kernels/prepare/layout.ts";
import type { Precision } from "../../kernels/training/precision.ts";
import { TrainingKernel } from "../../kernels/training/training-kernel.ts";
import { loraSpec } from "../load/random-job.ts";
import { randomStep } from "./random-step.ts";
import type { StepShape } from "./side.ts";

type OwnShape = StepShape & {
  readonly encoding: MatrixEncoding;
  readonly precision: Precision;
  readonly cacheDirectory: string;
  readonly memoryBytes: number; // for finetuning
  readonly windowTokens: number; // that are asked for
};

const shape: OwnShape = JSON.parse(process.argv[2]!);
const { threads, lengths, rank, precision } = shape;
const base = await prepareBase({
  modelDirectory: shape.model,
  cacheDirectory: shape.cacheDirectory,
  encoding: shape.encoding,
  threads,
  onProgress: () => undefined,
});
const targets = adapterTargets(base.config);
const windowTokens = Math.min(shape.windowTokens, largestWindow(targets));
const kernel = await TrainingKernel.open(base, { threads, windowTokens });
const plan = memoryPlan();
kernel.spend(plan);
const { layers, vocabSize } = base.config;
const step = randomStep(kernel, { layers, vocabSize, rank, lengths, precision });

await step();
writeFileSync("/proc/self/clear_refs", "5"); // the peak from here on: without loading
console.log(JSON.stringify({ windowTokens, ...plan }));
for await (const _ of createInterface({ input: process.stdin })) {
  const start = performance.now();
  const unitMs = await step();
  const ms = performance.now() - start;
  console.log(JSON.stringify({ ms, peakBytes: peakBytes(), longestUnitMs: Math.max(...unitMs) }));
}
await kernel.close();

/** As the trainer divides it. */
function memoryPlan() {
  const passTokens = lengths.reduce((sum, length) => sum + length, 0);
  const spec = loraSpec({ rank }, { batchSize: lengths.length, passTokens, windowTokens, precision });
  const { bytes } = trainingMemory(spec, { targets, longestTokens: Math.max(...lengths) });
  const keepableBytes = passTokens * kernel.keptBytesPerToken;
  return { jobBytes: bytes, ...spareMemory(shape.memoryBytes, [{ bytes, backward: true, keepableBytes }]) };
}

function peakBytes(): number {
  return Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]) * 1024;
}
