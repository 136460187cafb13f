// How much memory serving a base model takes on the CPU, from its configuration and its files' headers: nothing is
// loaded for it. The constants are measured and rounded up (docs/experiments.md).

import { adapterSites } from "./adapter-sites.ts";
import { openCheckpointWeights } from "./checkpoint/weights.ts";
import { bytesPerToken } from "./cpu/kv-arena.ts";
import { prefixBlockTokens } from "./cpu/prefix-cache.ts";
import type { ModelConfig } from "./model-config.ts";
import { adapterTargets, embeddingTensor } from "./model-family.ts";
import { encodedRowBytes, type MatrixEncoding } from "./prepare/layout.ts";

export type BaseMemoryOptions = {
  readonly modelDirectory: string;
  readonly config: ModelConfig;
  readonly encoding: MatrixEncoding;
  readonly maxRows: number;
  readonly maxContext: number; // tokens
  readonly plainGraphBytes?: number | undefined;
};

export type BaseMemory = {
  readonly weightsBytes: number; // the session's, and the embedding table
  readonly kvBytes: number; // of all rows at the whole context
  readonly rowKvBytes: number; // of one
  readonly workBytes: number; // of a step: activations, logits, copies of keys and values
  /** Of an adapter of rank 64 on every projection, which is more than most are. */
  readonly largeAdapterBytes: number;
};

/** Up to here nodes count as much as bytes: beyond, a step without adapters gains less than a tenth. */
export const defaultPlainGraphBytes = 256 * 2 ** 20;

/** The runtime keeps a matrix as stored and as packed; a session after another finds freed memory in pieces. */
const weightCopies = 2.25;
const plainWeightCopies = 1.25; // of the session without adapters, once it is open
/** Scores, what softmax makes of them, and one more between two nodes. */
const scoreCopies = 3;
/** Every output is a fresh array: so much of them is there before the garbage collector comes. */
export const garbageBytes = 128 * 2 ** 20;
const scratchTokens = 512; // by which kv-scratch.ts grows
const capacityTokens = 64; // of which kv-buckets.ts' capacities are multiples
const largeRank = 64;
const floatBytes = Float32Array.BYTES_PER_ELEMENT;

/** Throws CheckpointError as `openCheckpointWeights` does. */
export function baseMemory(options: BaseMemoryOptions): BaseMemory {
  const { config, maxRows, maxContext } = options;
  const tokenBytes = bytesPerToken(config);
  const rowKvBytes = roundUp(maxContext, capacityTokens) * tokenBytes;
  const sites = adapterSites(adapterTargets(config)).filter(({ name }) => name !== "head");
  const ranks = sites.reduce(
    (sum, { parts, layers, in: width, out }) => sum + parts.length * layers * (width + out),
    0,
  );
  const bytes = matrixBytes(options);
  const copies = weightCopies + (hasPlainGraph(bytes, options) ? plainWeightCopies : 0);
  return {
    weightsBytes: Math.round(bytes * copies) + embeddingBytes(options.modelDirectory),
    kvBytes: maxRows * rowKvBytes,
    rowKvBytes,
    workBytes: roundUp(maxContext, scratchTokens) * tokenBytes + stepBytes(options) + garbageBytes,
    largeAdapterBytes: ranks * largeRank * floatBytes,
  };
}

/** Whether a base whose matrices take so many bytes has a session without adapters too. */
export function hasPlainGraph(
  bytes: number,
  { plainGraphBytes = defaultPlainGraphBytes }: Pick<BaseMemoryOptions, "plainGraphBytes">,
): boolean {
  return bytes <= plainGraphBytes;
}

/** Of the prepared data file, but for norms and biases. */
export function matrixBytes({ config, encoding }: Pick<BaseMemoryOptions, "config" | "encoding">): number {
  const rowBytes = (columns: number) => {
    const { data, scales } = encodedRowBytes(encoding, columns);
    return data + scales;
  };
  return adapterSites(adapterTargets(config)).reduce(
    (sum, { layers, in: columns, out }) => sum + layers * out * rowBytes(columns),
    0,
  );
}

/** As the checkpoint has them. */
export function embeddingBytes(modelDirectory: string): number {
  using weights = openCheckpointWeights(modelDirectory);
  return weights.tensors.get(embeddingTensor)?.byteLength ?? 0; // a checkpoint without is refused when it is opened
}

/** A prefill chunk at the end of the longest context, or a decode step of all rows, whichever is more. */
export function stepBytes({ config, maxRows, maxContext }: BaseMemoryOptions): number {
  const { heads, hiddenSize, intermediateSize, vocabSize } = config;
  const tokens = Math.max(prefixBlockTokens, maxRows);
  const scores = heads * tokens * (maxContext + prefixBlockTokens) * scoreCopies;
  const activations = tokens * (8 * hiddenSize + 4 * intermediateSize);
  const logits = 2 * tokens * vocabSize; // in the runtime, and as copied out of it
  return (scores + activations + logits) * floatBytes;
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
