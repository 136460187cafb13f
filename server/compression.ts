// Compresses a version and measures what its outputs lose; or finds the smallest form whose outputs are within a limit.

import { randomUUID } from "node:crypto";
import { type CompressionOptions, candidateOptions } from "../adapters-store/compress/compress.ts";
import type { AdapterDeriver, CompressedFile } from "../adapters-store/store-derive.ts";
import { AdapterError } from "../kernels/errors.ts";
import type { ComparedVersions } from "../scheduler/compare.ts";
import type { Comparison } from "../scheduler/protocol.ts";
import type { DerivedVersions } from "./derived-versions.ts";
import type { ServedAdapter } from "./served-adapters.ts";

export type CompressionTask = {
  readonly adapter: Pick<ServedAdapter, "version" | "summary">;
  readonly prompts: readonly (readonly number[])[]; // token ids
  readonly owner: string; // on whose account
  readonly sharer: string | null; // whose share of the memory it takes
  readonly signal: AbortSignal;
};

export type CompressionTools = {
  readonly deriver: Pick<AdapterDeriver, "compress">;
  readonly derived: Pick<DerivedVersions, "register" | "leaseAll" | "forget">;
  /** Of outputs; both versions are leased. */
  readonly compare: (
    versions: Pick<ComparedVersions, "a" | "b" | "prompts">,
    signal: AbortSignal,
  ) => Promise<Comparison>;
};

/** Its file is removed when it is disposed of. */
export type MeasuredCompression = AsyncDisposable & {
  readonly file: CompressedFile;
  readonly outputs: Comparison; // the original's first
};

/** Throws as AdapterDeriver.compress and DerivedVersions.leaseAll do. */
export async function compressMeasured(
  task: CompressionTask,
  options: CompressionOptions,
  tools: CompressionTools,
): Promise<MeasuredCompression> {
  const file = await tools.deriver.compress({ version: task.adapter.version }, options, task);
  try {
    const outputs = await compareFile(file, task, tools);
    return { file, outputs, [Symbol.asyncDispose]: () => file[Symbol.asyncDispose]() };
  } catch (error) {
    await file[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * The smallest candidate whose mean KL divergence is within the limit, by bisection: smaller ones are farther from the
 * original. Throws as `compressMeasured`, AdapterError `compression_target_unreachable`.
 */
export async function compressWithin(
  task: CompressionTask,
  maxKl: number,
  tools: CompressionTools,
): Promise<MeasuredCompression> {
  let best: MeasuredCompression | null = null;
  let [first, last] = [0, candidateOptions.length - 1];
  try {
    while (first <= last) {
      const middle = Math.floor((first + last) / 2);
      const tried = await compressMeasured(task, candidateOptions[middle]!, tools);
      const isWithin = tried.outputs.meanKl <= maxKl;
      if (isWithin) first = middle + 1;
      else last = middle - 1;
      await (isWithin ? best : tried)?.[Symbol.asyncDispose]();
      if (isWithin) best = tried;
    }
  } catch (error) {
    await best?.[Symbol.asyncDispose]();
    throw error;
  }
  if (best !== null) return best;
  throw new AdapterError(
    "compression_target_unreachable",
    `even with 16 bits the outputs' mean KL divergence is above ${maxKl} nats; allow more`,
  );
}

async function compareFile(
  file: CompressedFile,
  { adapter, prompts, sharer, signal }: CompressionTask,
  { derived, compare }: CompressionTools,
): Promise<Comparison> {
  const candidate = `candidate:${randomUUID()}`;
  derived.register(candidate, {
    sizeBytes: adapter.summary.decodedBytes,
    make: async () => (await file.decode()).adapter,
    parents: [],
    owner: sharer,
  });
  try {
    using _lease = await derived.leaseAll([adapter.version, candidate], { owner: sharer, signal });
    return await compare({ a: adapter.version, b: candidate, prompts }, signal);
  } finally {
    derived.forget(candidate);
  }
}
