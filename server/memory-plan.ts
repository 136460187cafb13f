// What the process may come to use, part by part, before it uses it: announced by /ready, and refused where the
// machine has less. Memory of a device is announced beside it: how much it has, the runtime does not tell. Constants are measured (docs/experiments.md); tests/server/flood.slow-test.ts holds them.

import { totalmem } from "node:os";
import { type BaseMemory, baseMemory } from "../kernels/base-memory.ts";
import { describeCheckpoint } from "../kernels/base-model.ts";
import { triesWebgpu } from "../kernels/devices/index.ts";
import { CotenantError } from "../kernels/errors.ts";
import { type DeviceMemory, gpuMemory } from "../kernels/webgpu/gpu-memory.ts";
import { contextFor } from "../scheduler/context-length.ts";
import { encodings } from "../scheduler/quantization.ts";
import { bodyBudgetBytes } from "./body-budget.ts";
import { answerBudgetBytes } from "./generation/answer-budget.ts";
import type { ServeOptions } from "./start.ts";

export type MemoryParts = {
  readonly process: number; // Node, its threads, libraries, the HTTP thread's garbage
  readonly connections: number; // with a stream each
  readonly bodies: number; // of large requests that are being read
  readonly answers: number; // large ones, and what streams' clients have not read
  readonly requests: number; // running and waiting, of the whole context each
  readonly weights: number;
  readonly work: number; // of the engine's step
  readonly keys_and_values: number;
  readonly prefixes: number;
  readonly training: number; // of finetuning jobs
  readonly adapters: number; // decoded
  readonly slots: number; // where adapters of the running batch are copied to
  readonly decoding: number; // threads that read and check adapters
};

/** In a device's own memory. */
export type DeviceParts = {
  readonly weights: number;
  readonly embeddings: number;
  readonly work: number; // of the engine's step
  readonly keys_and_values: number;
  readonly prefixes: number;
  readonly training: number;
  readonly adapters: number; // that running requests use, and some that they used
  readonly slots: number;
};

export type MemoryPlan = {
  readonly planBytes: number;
  readonly limitBytes: number; // of the machine, or of the container
  readonly parts: MemoryParts;
  readonly device: { readonly planBytes: number; readonly parts: DeviceParts } | null; // null = it has none of its own
  readonly hostCacheBytes: number;
};

export type MemoryPlanInput = Pick<
  ServeOptions,
  "maxConnections" | "hostCacheBytes" | "maxRows" | "scheduling"
> & {
  readonly maxContext: number; // tokens
  readonly base: BaseMemory;
  readonly device: DeviceMemory | null;
  /** False where keys, values and slots are in the device's memory whatever happens. */
  readonly hostServes: boolean;
  readonly limitBytes: number;
};

const mebibyte = 2 ** 20;
const processBytes = 384 * mebibyte;
const connectionBytes = 128 * 1024;
const bodyCopies = 12; // bytes, text on two threads, and what the tokenizer makes of it
const requestTokenBytes = 24; // its id on both threads, and its text
const decodeThreads = 2; // of adapters-store/decode-pool.ts
const decodeThreadBytes = 48 * mebibyte;
const idleDeviceAdapters = 8; // of kernels/webgpu/gpu-adapters.ts

/** Throws CotenantError `memory_plan_exceeds_limit`, CheckpointError, and as `contextFor`. */
export function planServerMemory(options: ServeOptions): MemoryPlan {
  const { config } = describeCheckpoint(options.modelDirectory);
  const maxContext = contextFor(options.maxContext, config);
  const served = {
    modelDirectory: options.modelDirectory,
    config,
    encoding: encodings[options.quantize],
    maxRows: options.maxRows,
    maxContext,
    plainGraphBytes: options.plainGraphBytes,
  } as const;
  const gpu = triesWebgpu(options.device) ? gpuMemory(served) : null;
  const hostServes = options.device !== "webgpu" && options.quantize !== "f16"; // `auto` falls back, and not with f16
  const host = baseMemory(served);
  // The CPU may come to serve after it has only checked the device.
  const either = gpu && { ...host, weightsBytes: Math.max(host.weightsBytes, gpu.host.weightsBytes) };
  return planMemory({
    ...options,
    maxContext,
    base: (hostServes ? either : gpu?.host) ?? host,
    device: gpu?.device ?? null,
    hostServes,
    limitBytes: memoryLimitBytes(),
  });
}

/** Throws CotenantError `memory_plan_exceeds_limit`. */
export function planMemory(input: MemoryPlanInput): MemoryPlan {
  const { base, limitBytes, maxConnections, maxRows, maxContext, scheduling, hostServes } = input;
  const fixed = {
    process: processBytes,
    connections: maxConnections * connectionBytes,
    bodies: bodyCopies * bodyBudgetBytes,
    answers: answerBudgetBytes,
    requests: (scheduling.maxQueue + maxRows) * maxContext * requestTokenBytes,
    weights: base.weightsBytes,
    work: base.workBytes,
    keys_and_values: hostServes ? scheduling.maxKvBytes || base.kvBytes : 0,
    prefixes: hostServes ? scheduling.prefixCacheBytes : 0,
    training: scheduling.trainingMemoryBytes,
    decoding: decodeThreads * (decodeThreadBytes + 2 * base.largeAdapterBytes), // as read, and as decoded
  };
  // Twice: slots grow by doubling. A batch's adapters are all in the cache.
  const slotCopies = hostServes ? 2 : 0;
  const slotsFor = (adapters: number) => slotCopies * Math.min(adapters, maxRows * base.largeAdapterBytes);
  const restBytes = limitBytes - sum(fixed);
  const fittingBytes = Math.max(
    restBytes / (1 + slotCopies),
    restBytes - slotCopies * maxRows * base.largeAdapterBytes,
  );
  const hostCacheBytes =
    input.hostCacheBytes ??
    Math.max(base.largeAdapterBytes, Math.floor(Math.min(limitBytes / 4, fittingBytes)));
  const parts = { ...fixed, adapters: hostCacheBytes, slots: slotsFor(hostCacheBytes) };
  const device = planDevice(input, hostCacheBytes);
  const plan = { planBytes: sum(parts), limitBytes, parts, device, hostCacheBytes };
  if (plan.planBytes > limitBytes) throw exceedsLimit(plan, input);
  return plan;
}

function planDevice(
  { device, maxRows, scheduling }: MemoryPlanInput,
  decodedBytes: number,
): MemoryPlan["device"] {
  if (device === null) return null;
  const { largeAdapterBytes } = device;
  const adaptersOf = (count: number) => Math.min(decodedBytes, count * largeAdapterBytes);
  const parts = {
    weights: device.weightsBytes,
    embeddings: device.embeddingsBytes,
    work: device.workBytes,
    keys_and_values: 2 * (scheduling.maxKvBytes || device.kvBytes), // what grows is copied
    prefixes: scheduling.prefixCacheBytes,
    training: scheduling.trainingMemoryBytes,
    adapters: adaptersOf(maxRows + idleDeviceAdapters),
    slots: 2 * adaptersOf(maxRows),
  };
  return { planBytes: sum(parts), parts };
}

/** Of the machine, or what a container leaves of it. */
function memoryLimitBytes(): number {
  const containerBytes = process.constrainedMemory(); // 0, or more than there is, where nothing limits the process
  return containerBytes > 0 ? Math.min(containerBytes, totalmem()) : totalmem();
}

const remedies: Partial<Record<keyof MemoryParts, string>> = {
  connections: "--max-connections",
  weights: "a smaller --model, --quantize int4, or --plain-graph-bytes 0",
  work: "--max-context",
  requests: "--max-queue or --max-context",
  keys_and_values: "--max-kv-bytes, --max-rows or --max-context",
  prefixes: "--prefix-cache-bytes",
  training: "--training-memory-bytes",
  adapters: "--host-cache-bytes",
  slots: "--max-rows or --host-cache-bytes",
};

function exceedsLimit(plan: MemoryPlan, { base }: MemoryPlanInput): CotenantError {
  const { parts, planBytes, limitBytes } = plan;
  const largest = (Object.entries(parts) as [keyof MemoryParts, number][])
    .sort(([, one], [, other]) => other - one)
    .slice(0, 4)
    .map(([name, bytes]) => {
      const remedy = remedies[name];
      return `${name.replaceAll("_", " ")} ${inMebibytes(bytes)}${remedy ? ` (${remedy})` : ""}`;
    });
  const kvBytes = parts.keys_and_values - (planBytes - limitBytes);
  const exact = kvBytes >= base.rowKvBytes ? `; --max-kv-bytes ${kvBytes} would fit` : "";
  return new CotenantError(
    "memory_plan_exceeds_limit",
    `with these options the server may come to use ${inMebibytes(planBytes)}, more than the ${inMebibytes(limitBytes)} of this machine or container; most of it: ${largest.join(", ")}${exact}`,
  );
}

function inMebibytes(bytes: number): string {
  return `${Math.ceil(bytes / mebibyte)} MiB`;
}

function sum(parts: Readonly<Record<string, number>>): number {
  return Object.values(parts).reduce((total, bytes) => total + bytes, 0);
}
