// The frozen weights on the host: what PreparedWeights widens is fed as it is, and sparse changes are written into it.

import type { PreparedLayout } from "../prepare/layout.ts";
import { type Feeds, floatTensor } from "../session.ts";
import type { FedLayer, FrozenWeights, HeadRows } from "./frozen-weights.ts";
import { type LayerWeight, layerInputs } from "./layer-names.ts";
import type { PreparedWeights } from "./prepared-weights.ts";
import type { SparseDelta, WeightMap } from "./sparse-weights.ts";

export class HostWeights implements FrozenWeights {
  readonly #prepared: PreparedWeights;
  readonly #places: WeightMap;

  constructor(prepared: PreparedWeights, places: WeightMap) {
    this.#prepared = prepared;
    this.#places = places;
  }

  get layout(): PreparedLayout {
    return this.#prepared.layout;
  }

  get finalNorm(): Float32Array {
    return this.#prepared.finalNorm;
  }

  async layer(index: number, deltas: readonly SparseDelta[]): Promise<FedLayer> {
    const values = await this.#prepared.layer(index);
    const feeds: Feeds = {};
    for (const [name, data] of values) {
      feeds[layerInputs.weight(name)] = floatTensor(data, weightDims(this.layout, index, name));
    }
    const restore = this.#places.add(values, deltas);
    return { feeds, restore: async () => restore() };
  }

  async headRows(firstRow: number, count: number): Promise<HeadRows> {
    const { rows } = await this.#prepared.headSlice(firstRow, count);
    const width = this.layout.head.columns;
    return {
      firstRow,
      count,
      feed: floatTensor(rows, [count, width]),
      row: (index) => rows.subarray(index * width, (index + 1) * width),
    };
  }

  keepWidened(bytes: number): void {
    this.#prepared.keepWidened(bytes);
  }

  async close(): Promise<void> {
    await this.#prepared.close();
  }
}

export function weightDims(layout: PreparedLayout, layer: number, name: LayerWeight): number[] {
  const part = layout.layers[layer]![name]!;
  return "length" in part ? [part.length] : [part.rows, part.columns];
}
