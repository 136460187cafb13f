// WebGPU as a device to train on: the kernel's graphs in sessions of the provider, fed with weights that lie on the
// device. A unit's tokens and adapter cross the bus, as do its results; the optimizer stays on the host.

import type { DeviceTraining } from "../device.ts";
import { CotenantError } from "../errors.ts";
import { adapterTargets } from "../model-family.ts";
import type { PreparedLayout } from "../prepare/layout.ts";
import type { Feeds } from "../session.ts";
import type { FrozenWeights } from "../training/frozen-weights.ts";
import { KernelProbes } from "../training/kernel-probes.ts";
import { WeightMap } from "../training/sparse-weights.ts";
import type { OpenTrainingDevice, TrainingSession } from "../training/training-device.ts";
import { TrainingKernel, untrainable } from "../training/training-kernel.ts";
import { GpuMemoryError, GpuSession } from "./gpu-session.ts";
import { GpuAdapterPlaces } from "./training-adapters.ts";
import { WebgpuTrainingGraph } from "./training-graph.ts";
import { GpuWeights } from "./training-weights.ts";
import type { WebgpuModel } from "./webgpu-model.ts";

/** So that a slice of the head is one buffer of moderate size, and few slices' running values cross. */
const headSliceBytes = 64 * 2 ** 20;
const floatBytes = Float32Array.BYTES_PER_ELEMENT;
/** Of the largest matrix, while it is widened. */
const wideningCopies = 4;

/** Runs what uses the device. @throws CotenantError `device_lost` and others where that ends the device */
export type Watch = <Result>(run: () => Promise<Result>) => Promise<Result>;

type TrainedModel = Pick<WebgpuModel, "base" | "allocator" | "bus" | "halves">;

export function webgpuTraining(model: TrainedModel, watch: Watch): DeviceTraining {
  const { base } = model;
  return {
    problem: untrainable(base),
    precisions: ["float32"],
    baseBytes: trainingBaseBytes(base.layout),
    openKernel: () => TrainingKernel.open(base, { threads: 1, openDevice: trainingOn(model, watch) }),
    probes: (kernel) => new KernelProbes(kernel),
  };
}

/** What the device holds of the base beside what serves, and while it widens; without what the runtime rounds up. */
export function trainingBaseBytes({ layers, head, vectors, sizeBytes }: PreparedLayout): number {
  if (head.encoding === "float32") return sizeBytes;
  const { qkv, o, gate, up, down } = layers[0]!;
  const sizes = [qkv, o, gate, up, down].map(({ rows, columns }) => rows * columns * floatBytes);
  const slice = Math.min(headSliceBytes, head.rows * head.columns * floatBytes);
  const layer = sizes.reduce((sum, size) => sum + size, 0);
  if (head.encoding === "float16") {
    const vectorBytes = vectors.reduce((sum, { data }) => sum + data.length, 0);
    return vectorBytes + layer + slice + slice / 2; // serving's matrices are read, a slice of the head is cut out
  }
  return sizeBytes + layer + slice + wideningCopies * Math.max(slice, ...sizes);
}

/** @param watch is given all that runs on the device for the kernel */
export function trainingOn(
  { allocator, bus, halves }: Omit<TrainedModel, "base">,
  watch: Watch,
): OpenTrainingDevice {
  return ({ config, layout, dataPath }) => {
    let isClosed = false;
    let running: Promise<unknown> = Promise.resolve();
    // A unit of a job that is dropped may be under way when the kernel closes: it must find nothing that is disposed of.
    const run: Watch = async (work) => {
      if (isClosed) throw new Error("the training kernel was closed while a unit of it was under way");
      const result = watch(work).catch(failUnit);
      running = result.catch(() => {});
      return result;
    };
    const places = new WeightMap(adapterTargets(config));
    const weights = new GpuWeights({ layout, dataPath, places, allocator, bus, halves });
    const adapters = new GpuAdapterPlaces(bus, run);
    const watched: FrozenWeights = {
      layout,
      finalNorm: weights.finalNorm,
      async layer(index, deltas) {
        const { feeds, restore } = await run(() => weights.layer(index, deltas));
        return { feeds, restore: async () => (isClosed ? undefined : run(restore)) };
      },
      headRows: (firstRow, count) => run(() => weights.headRows(firstRow, count)),
      keepWidened() {}, // widening is reading and writing them once: none stay widened
    };
    return {
      newGraph: () => new WebgpuTrainingGraph(),
      async openSession({ modelPath: model }) {
        const session = await run(() => GpuSession.open({ model, bus }));
        return { run: (feeds) => run(() => onHost(session, feeds)), close: () => session.close() };
      },
      weights: watched,
      integers: null,
      headSliceRows: Math.max(1, Math.floor(headSliceBytes / (floatBytes * config.hiddenSize))),
      adapterPlace: () => adapters.open(),
      keepsResults: false, // they would cross the bus twice, and are computed sooner
      async close() {
        isClosed = true;
        await running;
        await adapters.close();
        await weights.close();
      },
    };
  };
}

/** An engine without its device ends, and its jobs go on in the next one: no job may fail before. */
async function failUnit(error: unknown): Promise<never> {
  if (error instanceof CotenantError && error.code.startsWith("device_")) await new Promise(() => {});
  if (!(error instanceof GpuMemoryError)) throw error;
  throw new CotenantError(
    "training_memory_exceeded",
    `the WebGPU device has no memory for the job: ${error.message}; resume it once less is served, or lower --max-kv-bytes, --prefix-cache-bytes or --max-rows`,
    { cause: error },
  );
}

async function onHost(session: GpuSession, feeds: Feeds): ReturnType<TrainingSession["run"]> {
  const outputs = await session.run(feeds);
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { data }]) => [name, data as Float32Array<ArrayBuffer>]),
  );
}
