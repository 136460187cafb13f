// The token embedding table, kept in the checkpoint's own precision and widened row by row when it is read.

import { bfloat16ToFloat32, float16ToFloat32 } from "./checkpoint/float16.ts";
import type { CheckpointWeights } from "./checkpoint/weights.ts";
import { CheckpointError } from "./errors.ts";
import type { ModelConfig } from "./model-config.ts";
import { embeddingTensor } from "./model-family.ts";

const checkedValues = 1 << 22;

type ReadRow = (tokenId: number, out: Float32Array) => void;

export class Embeddings {
  readonly #readRow: ReadRow;
  readonly #width: number;
  readonly #scale: number;

  constructor(weights: CheckpointWeights, config: ModelConfig) {
    this.#width = config.hiddenSize;
    this.#scale = config.embeddingScale;
    this.#readRow = openTable(weights, config);
  }

  /** Writes the rows of `tokenIds`, scaled as the family asks, to out [tokens, hidden] from `firstToken` on. */
  lookup(tokenIds: readonly number[], out: Float32Array, firstToken = 0): void {
    for (const [index, tokenId] of tokenIds.entries()) {
      const first = (firstToken + index) * this.#width;
      const row = out.subarray(first, first + this.#width);
      this.#readRow(tokenId, row);
      if (this.#scale !== 1) for (let i = 0; i < row.length; i++) row[i] = row[i]! * this.#scale;
    }
  }
}

/** Reads the table once in float32 blocks, for the check that every value is finite. */
function checkFinite(weights: CheckpointWeights, config: ModelConfig): void {
  const rows = Math.max(1, Math.floor(checkedValues / config.hiddenSize));
  for (let row = 0; row < config.vocabSize; row += rows) {
    weights.readFloat32Rows(embeddingTensor, row, Math.min(rows, config.vocabSize - row));
  }
}

/** @throws CheckpointError `missing_tensor`, `wrong_shape`, `non_finite_weights`, `unsupported_dtype` */
function openTable(weights: CheckpointWeights, config: ModelConfig): ReadRow {
  const width = config.hiddenSize;
  const { dtype } = weights.require(embeddingTensor, [config.vocabSize, width]);
  // A tied table has been read and checked as the head.
  if (!config.tiedHead) checkFinite(weights, config);
  const raw = weights.readRaw(embeddingTensor);
  if (dtype === "F32") {
    const table = new Float32Array(raw.buffer, raw.byteOffset, raw.byteLength / 4);
    return (tokenId, out) => out.set(table.subarray(tokenId * width, (tokenId + 1) * width));
  }
  if (dtype === "F16" || dtype === "BF16") {
    const table = new Uint16Array(raw.buffer, raw.byteOffset, raw.byteLength / 2);
    const widen = dtype === "F16" ? float16ToFloat32 : bfloat16ToFloat32;
    return (tokenId, out) => widen(table.subarray(tokenId * width, (tokenId + 1) * width), out);
  }
  throw new CheckpointError(
    "unsupported_dtype",
    `tensor "${embeddingTensor}" is ${dtype}; store it as F32, F16 or BF16`,
  );
}
