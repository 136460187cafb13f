// How much memory a finetuning job takes at most, before anything of it is opened: a pure function of what is asked
// for. Constants are measured and rounded up (training-memory.test.ts holds them to a process' own memory).

import { type AdapterTargets, type DecodedAdapter, projections } from "../kernels/adapter.ts";
import { blockSize, blocksPerRow } from "../kernels/prepare/quantize-blocks.ts";
import { referencesLimitBytes } from "./example-passes.ts";
import type { JobStart, TrainingExamples, TrainingSpec } from "./job.ts";
import { largestUnit } from "./largest-window.ts";
import { methods } from "./methods/index.ts";
import type { Method, MethodSize } from "./methods/method.ts";
import { objectives } from "./objectives/index.ts";
import { optimizers } from "./optimizers/index.ts";
import { probeBytes, probeBytesPerToken } from "./probe-memory.ts";

export type TrainingMemory = {
  readonly bytes: number;
  readonly bytesPerToken: number; // of `bytes`, what each token of a pass takes
};

export type JobMemory = {
  readonly bytes: number; // with the examples
  readonly resultBytes: number; // of the numbers that are trained, as an adapter has them
  readonly checkpointBytes: number; // of its state on the disk, at most, without a log of its steps
  readonly backward: boolean; // whether its steps have gradients
};

export type TrainingMemoryOptions = {
  readonly targets: AdapterTargets;
  readonly longestTokens: number; // of an example
  readonly from?: DecodedAdapter | null;
};

/** What admission is decided by, in the engine and where a job is made. */
export function jobMemory(job: JobData, targets: AdapterTargets): JobMemory {
  const { spec, training, validation, from } = job;
  const sets = validation === null ? [training] : [training, validation];
  const { sequencesPerExample } = objectives[spec.objective.name](spec.objective);
  const longestTokens = Math.max(...sets.map((examples) => longestExample(examples, sequencesPerExample)));
  const examplesBytes = sets.reduce((sum, examples) => sum + bytesOf(examples), 0);
  const { name, settings } = spec.method;
  const method: Method = methods[name];
  const size = method.size(settings, { targets, from });
  return {
    bytes:
      trainingMemory(spec, { targets, longestTokens, from }).bytes +
      examplesBytes +
      orderBytes(training) +
      referenceBytes(spec, validation),
    resultBytes: floatBytes * size.trained,
    checkpointBytes: Math.ceil(stateBytes(spec, size)) + checkpointNamesBytes,
    backward: method.backward,
  };
}

/** What is kept of the base's answers to the validation examples, where the objective compares with them. */
function referenceBytes(
  { objective }: Pick<TrainingSpec, "objective">,
  validation: TrainingExamples | null,
): number {
  const { needsReference } = objectives[objective.name](objective);
  if (!needsReference || validation === null) return 0;
  return Math.min(referencesLimitBytes, Float64Array.BYTES_PER_ELEMENT * validation.tokenIds.length);
}

/** Moments: methods without gradients have none. */
function optimizerBytes({ optimizer, method }: Pick<TrainingSpec, "optimizer" | "method">, trained: number) {
  const { backward }: Method = methods[method.name];
  return backward ? trained * optimizers[optimizer.name].stateBytesPerParameter : 0;
}

/** What a checkpoint copies: the numbers that move, what the method knows of them, and the optimizer. */
function stateBytes(spec: Pick<TrainingSpec, "optimizer" | "method">, { trained, kept }: MethodSize): number {
  return floatBytes * (trained + kept) + optimizerBytes(spec, trained);
}

/** Of the examples in this epoch and, while they are shuffled, in the next. */
function orderBytes({ ends }: TrainingExamples): number {
  return 2 * Uint32Array.BYTES_PER_ELEMENT * ends.length;
}

export type JobData = Pick<JobStart, "spec" | "training" | "validation" | "from">;

/** Of a preference pair both sides together, as they are in one pass. */
function longestExample({ ends }: TrainingExamples, sequences: number): number {
  let longest = 0;
  for (let last = sequences - 1; last < ends.length; last += sequences) {
    longest = Math.max(longest, ends[last]! - (ends[last - sequences] ?? 0));
  }
  return longest;
}

function bytesOf({ tokenIds, weights, ends }: TrainingExamples): number {
  return tokenIds.byteLength + weights.byteLength + ends.byteLength;
}

const floatBytes = Float32Array.BYTES_PER_ELEMENT;

/** Rows of the output head that are widened at once, as the kernel has them. */
const headSliceRows = 4128;
/** Scores, what softmax makes of them and their gradients, as far as they are there at once. */
const scoreCopies = 4;
/** What a unit makes of a token in and behind its projections, in times of the projections' widths. */
const unitCopies = 3;
/** Names and counts of what a checkpoint holds, without what grows with the steps. */
export const checkpointNamesBytes = 2 ** 17;
/** Sessions, their graphs and what the runtime keeps for itself. */
const sessionBytes = 32 * 2 ** 20;
/** Of a layer, for those with integers. */
const integerSessionsBytes = 2 ** 20;

export function trainingMemory(spec: TrainingSpec, options: TrainingMemoryOptions): TrainingMemory {
  const { targets, longestTokens } = options;
  const { settings, name } = spec.method;
  const method: Method = methods[name];
  const size = method.size(settings, { targets, from: options.from ?? null });
  const { trained, frozen, kept, preparing } = size;
  const values = floatBytes * (trained + frozen);
  const served = floatBytes * (trained + kept); // at most, as it may need more than numbers
  const checkpoint = stateBytes(spec, size) + served; // whoever writes both down writes these copies
  const tokens = Math.max(spec.passTokens, longestTokens);
  if (!method.backward) {
    const unitTokens = Math.min(spec.windowTokens, largestUnit(method, targets));
    const bytesPerToken = probeBytesPerToken(targets);
    const probes = probeBytes({ targets, trained, unitTokens, longestTokens });
    return { bytes: Math.ceil(values + checkpoint + probes + tokens * bytesPerToken), bytesPerToken };
  }
  const gradients = floatBytes * (2 * trained + frozen);
  const bytesPerToken = passBytesPerToken(targets) + readBytesPerToken(targets, trained);
  const window = unitBytes(targets, {
    tokens: Math.min(spec.windowTokens, tokens),
    keys: Math.min(longestTokens + spec.windowTokens, tokens),
  });
  const stepping = gradients + optimizerBytes(spec, trained) + checkpoint + tokens * bytesPerToken;
  const bytes =
    values +
    Math.max(stepping, floatBytes * preparing) + // one comes after the other
    window +
    weightBytes(targets) +
    (spec.precision === "int8" ? integerLayersBytes(targets) : 0) +
    sessionBytes;
  return { bytes: Math.ceil(bytes), bytesPerToken };
}

/** Each layer's inputs of attention and MLP, keys and values; the last hidden states and what the loss keeps. */
function passBytesPerToken({ layers, hiddenSize, kvHeads, headDim }: AdapterTargets): number {
  const keyValues = 2 * kvHeads * headDim;
  const lossRows = 3; // [scored, hidden] each
  return floatBytes * (layers * (2 * hiddenSize + keyValues) + keyValues + (2 + lossRows) * hiddenSize);
}

/** What low-rank modules read of a token, at most: each rank has an input's and an output's width of numbers. */
function readBytesPerToken({ shapes }: AdapterTargets, trained: number): number {
  const narrowest = Math.min(
    ...projections.map((projection) => shapes[projection].in + shapes[projection].out),
  );
  return floatBytes * Math.ceil(trained / narrowest);
}

function unitBytes(
  { shapes, headDim, hiddenSize }: AdapterTargets,
  { tokens, keys }: { readonly tokens: number; readonly keys: number },
): number {
  const heads = shapes.q.out / headDim;
  const widths = projections.reduce((sum, projection) => sum + shapes[projection].out, 0);
  const activations = tokens * (widths * unitCopies + 8 * hiddenSize);
  return floatBytes * (activations + scoreCopies * heads * tokens * keys);
}

/** One layer's weights and a slice of the head, widened; the runtime packs a matrix anew for a product. */
function weightBytes({ shapes, hiddenSize, vocabSize }: AdapterTargets): number {
  const sizes = projections.map((projection) => shapes[projection].in * shapes[projection].out);
  const layer = sizes.reduce((sum, size) => sum + size, 0);
  const slice = Math.min(vocabSize, headSliceRows) * hiddenSize;
  return floatBytes * (layer + slice + Math.max(...sizes, slice));
}

/** Every layer's matrices as integers with their scales, once going forward and once going back, in sessions. */
function integerLayersBytes({ shapes, layers }: AdapterTargets): number {
  const sizes = projections.map((projection) => {
    const { in: columns, out: rows } = shapes[projection];
    return (rows * blocksPerRow(columns) + columns * blocksPerRow(rows)) * (blockSize + floatBytes);
  });
  const layer = sizes.reduce((sum, size) => sum + size, 0);
  return layers * (layer + integerSessionsBytes);
}
