// What a job on the embedded base adds to a process that serves, for tests: one in each process, since memory that a
// job gave back is not grown again by the next one.

import { join } from "node:path";
import type { TestContext } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { TrainingSpec } from "../finetuning/job.ts";
import { TrainingJob } from "../finetuning/training-job.ts";
import { trainingMemory } from "../finetuning/training-memory.ts";
import { type BaseModel, openBaseModel } from "../kernels/base-model.ts";
import { CpuRunner } from "../kernels/cpu/cpu-runner.ts";
import { CpuProbes } from "../kernels/cpu/probes.ts";
import { adapterTargets } from "../kernels/model-family.ts";
import { TrainingKernel } from "../kernels/training/training-kernel.ts";
import { temporaryCache } from "./golden/golden-case.ts";
import { examplesOf, smallStart } from "./training-job-fixture.ts";

const modelDirectory = join(import.meta.dirname, "..", "models", "tiny");
const tokens = 128;
const count = 3;

/** @returns what the process grew by, and what is stated, in bytes */
export async function grownAndStated(
  { method, precision = "float32" }: Pick<TrainingSpec, "method"> & Partial<TrainingSpec>,
  t: TestContext,
): Promise<{ grown: number; stated: number }> {
  setFlagsFromString("--max-semi-space-size=1"); // MiB; room for young objects comes by chance, and is not the job's
  setFlagsFromString("--expose-gc");
  const collect: () => void = runInNewContext("gc"); // nor is what waits to be collected: 4 MiB in one run of six
  const base = await openBaseModel({
    modelDirectory,
    cacheDirectory: temporaryCache(),
    encoding: "float32",
    threads: 1,
    plainGraphBytes: 0, // so that the prompt that warms up runs in the session that probes run in
    onProgress: () => undefined,
  });
  const targets = adapterTargets(base.config);
  const weights = Array.from({ length: tokens }, (_, at) => Math.min(at, 1));
  const sequences = Array.from({ length: count }, (_, index) => ({
    tokens: weights.map((_, at) => (31 * index + 7 * at) % 2048),
    weights,
  }));
  const spec = {
    method,
    precision,
    passTokens: count * tokens,
    windowTokens: 128,
    batchSize: count,
    epochs: 1,
  };
  const start = smallStart(spec, { training: examplesOf(sequences) });
  await servePrompt(base);
  collect();
  const before = process.memoryUsage().rss;
  let peak = before;
  const kernel = await TrainingKernel.open(base, { threads: 1 });
  const options = { kernel, probes: new CpuProbes(base), targets, report: () => undefined };
  for (const unit of new TrainingJob(start, options).units()) {
    await unit.run();
    collect();
    peak = Math.max(peak, process.memoryUsage().rss);
  }
  await kernel.close();
  await base.close();
  const grown = peak - before;
  const stated = trainingMemory(start.spec, { targets, longestTokens: tokens }).bytes;
  const mebibytes = (size: number) => Math.round(size / 2 ** 20);
  t.diagnostic(`grown by ${mebibytes(grown)} MiB, stated are ${mebibytes(stated)} MiB`);
  return { grown, stated };
}

/** What serving takes is not the job's. */
async function servePrompt(base: BaseModel): Promise<void> {
  const runner = new CpuRunner(base, { maxRows: 1, maxContext: 256 });
  runner.open("warm", { adapterVersion: null, prefix: null });
  const tokenIds = Array.from({ length: 128 }, () => 1);
  for (let chunk = 0; chunk < 2; chunk++) {
    await runner.prefill({ sequence: "warm", tokenIds, promptLength: 256, logits: "all" });
  }
  runner.close("warm");
}
