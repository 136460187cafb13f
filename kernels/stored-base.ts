// The base as its checkpoint stores it, whatever encoding it is served in: for what is computed from the base's own
// weights (the norms of DoRA, trained biases). Loads no session; reads rows when they are asked for.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Projection } from "./adapter.ts";
import { type CheckpointWeights, openCheckpointWeights } from "./checkpoint/weights.ts";
import { type ModelConfig, RawConfig } from "./model-config.ts";
import { embeddingTensor, headTensor, type LayerTensors } from "./model-family.ts";
import { familyOf } from "./models/index.ts";

/** @throws CheckpointError as `openBaseModel` does for the same directory */
export function openStoredBase(directory: string): StoredBase {
  const path = join(directory, "config.json");
  const raw = new RawConfig(JSON.parse(readFileSync(path, "utf8")), path);
  const family = familyOf(raw.string("model_type"));
  const config = family.config(raw);
  const layers = Array.from({ length: config.layers }, (_, index) => family.layer(config, index, raw));
  return new StoredBase(config, layers, openCheckpointWeights(directory));
}

/** Open files; `close()` them. */
export class StoredBase {
  readonly config: ModelConfig;
  readonly #layers: readonly LayerTensors[];
  readonly #weights: CheckpointWeights;

  constructor(config: ModelConfig, layers: readonly LayerTensors[], weights: CheckpointWeights) {
    this.config = config;
    this.#layers = layers;
    this.#weights = weights;
  }

  /** Rows of a projection's weight, [rows, in]. */
  rows(
    at: { readonly layer: number; readonly projection: Projection },
    firstRow: number,
    rows: number,
  ): Float32Array<ArrayBuffer> {
    const { weight } = this.#layers[at.layer]![at.projection];
    return this.#weights.readFloat32Rows(weight.name, weight.firstRow + firstRow, rows);
  }

  /** [out], or null where the base has none. */
  bias(at: { readonly layer: number; readonly projection: Projection }): Float32Array<ArrayBuffer> | null {
    const { bias } = this.#layers[at.layer]![at.projection];
    return bias === null ? null : this.#weights.readFloat32Rows(bias.name, bias.firstRow, bias.rows);
  }

  /** Rows of the token embeddings or of the output head, [rows, hidden]. */
  tableRows(table: "embedding" | "head", firstRow: number, rows: number): Float32Array<ArrayBuffer> {
    const isEmbedding = table === "embedding" || this.config.tiedHead;
    return this.#weights.readFloat32Rows(isEmbedding ? embeddingTensor : headTensor, firstRow, rows);
  }

  close(): void {
    this.#weights.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
