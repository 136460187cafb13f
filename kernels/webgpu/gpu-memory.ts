// How much memory serving a base model on WebGPU takes, on the device and on the host beside it, from its configuration
// and its files' headers. Computed, and not measured on a real device yet (docs/webgpu.md).

import {
  type BaseMemory,
  type BaseMemoryOptions,
  baseMemory,
  embeddingBytes,
  garbageBytes,
  matrixBytes,
  stepBytes,
} from "../base-memory.ts";
import { isQuantized } from "../prepare/layout.ts";
import { shortenedConfig } from "../shortened-base.ts";

export type DeviceMemory = {
  readonly weightsBytes: number;
  readonly embeddingsBytes: number; // widened to float32
  readonly kvBytes: number; // of all rows at the whole context
  readonly workBytes: number; // of a step
  readonly largeAdapterBytes: number; // as on the CPU
};

export type GpuMemory = { readonly host: BaseMemory; readonly device: DeviceMemory };

/** The runtime rounds its buffers up, to twice what is asked for at most. */
const roundedUp = 2;
const scoredTokens = 64; // of a prompt whose log-probabilities are asked for, in a run

/** Throws CheckpointError as `openCheckpointWeights` does. */
export function gpuMemory(options: BaseMemoryOptions): GpuMemory {
  const { config, maxRows, modelDirectory } = options;
  const { vocabSize, hiddenSize } = config;
  const { kvBytes, largeAdapterBytes } = baseMemory(options);
  const logitBytes = vocabSize * Float32Array.BYTES_PER_ELEMENT;
  const weightsBytes = matrixBytes(options);
  const read = weightsBytes + embeddingBytes(modelDirectory); // until the device has them
  return {
    host: {
      weightsBytes: Math.max(read, checkedBytes(options)),
      kvBytes: 0,
      rowKvBytes: 0,
      workBytes: 2 * Math.max(scoredTokens, maxRows) * logitBytes + garbageBytes, // whole rows of logits that cross
      largeAdapterBytes,
    },
    device: {
      weightsBytes,
      embeddingsBytes: vocabSize * hiddenSize * Float32Array.BYTES_PER_ELEMENT,
      kvBytes,
      workBytes: roundedUp * stepBytes(options) + widenedBytes(options),
      largeAdapterBytes,
    },
  };
}

/** A step's float32 copies of float16 matrices: a layer's, which the runtime keeps for the next, and the head's. */
function widenedBytes({ config, encoding }: BaseMemoryOptions): number {
  if (encoding !== "float16") return 0;
  const bytesOf = (layers: number) => matrixBytes({ config: { ...config, layers }, encoding: "float32" });
  return roundedUp * (bytesOf(1) - bytesOf(0)) + bytesOf(0); // buffers as large as the head's are hardly rounded
}

/**
 * Of the few layers that the CPU computes before the device is trusted; it widens the head where it is quantized, and
 * all of float16.
 */
function checkedBytes(options: BaseMemoryOptions): number {
  const { encoding } = options;
  const few = { ...options, config: shortenedConfig(options.config) };
  if (encoding === "float16") {
    return matrixBytes(few) + baseMemory({ ...few, encoding: "float32" }).weightsBytes;
  }
  const { vocabSize, hiddenSize } = few.config;
  const widened = isQuantized(encoding) ? vocabSize * hiddenSize * Float32Array.BYTES_PER_ELEMENT : 0;
  return baseMemory(few).weightsBytes + widened;
}
