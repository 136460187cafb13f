// The golden cases as tests use them: what transformers + PEFT computed, and the same checkpoint opened by us.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { decodeAdapter } from "../../adapters-store/decode-adapter.ts";
import { claimFiles } from "../../adapters-store/formats/index.ts";
import type { DecodedAdapter } from "../../kernels/adapter.ts";
import { type BaseModel, openBaseModel } from "../../kernels/base-model.ts";
import { CpuRunner } from "../../kernels/cpu/cpu-runner.ts";
import { adapterTargets } from "../../kernels/model-family.ts";
import type { Logits } from "../../kernels/model-runner.ts";
import type { MatrixEncoding } from "../../kernels/prepare/layout.ts";
import { logSumExp } from "../../kernels/sampling/logprobs.ts";

export type GoldenRun = {
  readonly prompt: number; // index into prompts
  readonly adapter: string | null;
  readonly positions: readonly number[];
  readonly logprobs: readonly (readonly number[])[]; // [positions, vocab]
  readonly tokenLogprobs: readonly (number | null)[]; // [prompt tokens]
  readonly greedy: readonly number[];
  readonly greedyLogprobs: readonly number[];
};

export type GoldenCase = {
  readonly name: string;
  readonly directory: string;
  readonly modelType: string;
  readonly prompts: readonly (readonly number[])[];
  readonly runs: readonly GoldenRun[];
};

const casesDirectory = join(import.meta.dirname, "cases");

export function goldenCase(name: string): GoldenCase {
  const directory = join(casesDirectory, name);
  const read = (file: string) => JSON.parse(readFileSync(join(directory, file), "utf8"));
  const { prompts, runs } = read("golden.json");
  return { name, directory, modelType: read("config.json").model_type, prompts, runs };
}

export function allGoldenCases(): GoldenCase[] {
  return readdirSync(casesDirectory).map(goldenCase);
}

/** A cache directory that goes away with the test file. */
export function temporaryCache(): string {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-test-"));
  after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export type OpenOptions = {
  readonly cacheDirectory: string;
  readonly encoding?: MatrixEncoding;
  readonly maxRows?: number;
  readonly maxContext?: number;
};

/** Opens the checkpoint on the CPU, with both of its adapters known to the runner. */
export async function openGolden(
  golden: GoldenCase,
  options: OpenOptions,
): Promise<{ base: BaseModel; runner: CpuRunner }> {
  const { cacheDirectory, encoding = "float32", maxRows = 16, maxContext = 512 } = options;
  const base = await openBaseModel({
    modelDirectory: golden.directory,
    cacheDirectory,
    encoding,
    threads: 1,
    onProgress: () => undefined,
  });
  const runner = new CpuRunner(base, { maxRows, maxContext });
  for (const name of ["wide", "narrow"]) runner.addAdapter(name, goldenAdapter(golden, name, base));
  return { base, runner };
}

export function goldenAdapter(
  golden: GoldenCase,
  name: string,
  { config }: Pick<BaseModel, "config">,
): DecodedAdapter {
  const directory = join(golden.directory, "adapters", name);
  const files = claimFiles(readdirSync(directory));
  return decodeAdapter({ directory, files, targets: adapterTargets(config), baseFingerprint: "" }).adapter;
}

export function logitRow({ data, vocabSize }: Logits, row: number): Float32Array {
  return data.subarray(row * vocabSize, (row + 1) * vocabSize);
}

export function logSoftmax(logits: Float32Array): Float64Array {
  const normaliser = logSumExp(logits);
  return Float64Array.from(logits, (logit) => logit - normaliser);
}

/** The largest absolute difference. */
export function distance(one: ArrayLike<number>, other: ArrayLike<number>): number {
  if (one.length !== other.length) throw new RangeError(`lengths ${one.length} and ${other.length}`);
  let worst = 0;
  for (let i = 0; i < one.length; i++) {
    const difference = Math.abs(one[i]! - other[i]!);
    if (Number.isNaN(difference)) return difference;
    worst = Math.max(worst, difference);
  }
  return worst;
}
