// What a layer's graph is fed beside its weights: the window's tokens, earlier keys and values, the adapter.

import { type Projection, projections } from "../adapter.ts";
import type { ModelConfig } from "../model-config.ts";
import { adapterTargets } from "../model-family.ts";
import { type Feeds, floatTensor, indexTensor, int32Tensor } from "../session.ts";
import type { AttentionTiles } from "./attention-tiles.ts";
import { layerInputs, readTogether } from "./layer-names.ts";
import type { TrainedModule } from "./low-rank-parameters.ts";
import type { TokenLayout, TokenRange } from "./token-layout.ts";

/** Keys and values of all windows' tokens, [tokens, kvHeads * headDim], as far as they are known. */
export type AttentionState = {
  readonly layout: TokenLayout;
  readonly keys: Float32Array;
  readonly values: Float32Array;
};

export class LayerFeeds {
  readonly #config: ModelConfig;
  readonly #absent: Feeds;

  constructor(config: ModelConfig) {
    this.#config = config;
    this.#absent = absentModules(config);
  }

  /** @param rows [window's tokens, hidden] */
  hidden(rows: Float32Array): Feeds {
    const { hiddenSize } = this.#config;
    return { [layerInputs.hidden]: floatTensor(rows, [rows.length / hiddenSize, hiddenSize]) };
  }

  /** What attention reads of a window beside its hidden states. */
  attention(layer: number, window: TokenRange, { layout, keys, values }: AttentionState): Feeds {
    const { kvHeads, headDim } = this.#config;
    const count = window.to - window.from;
    const first = layout.firstSeen(layer, window);
    const past = window.from - first;
    const keyWidth = kvHeads * headDim;
    const { cos, sin, half } = layout.rotary(layer, window);
    const pastRows = (rows: Float32Array) =>
      floatTensor(rows.subarray(first * keyWidth, window.from * keyWidth), [past, keyWidth]);
    return {
      [layerInputs.cos]: floatTensor(cos, [count, half]),
      [layerInputs.sin]: floatTensor(sin, [count, half]),
      ...this.#tiles(layout.attention(layer, window)),
      [layerInputs.pastKeys]: pastRows(keys),
      [layerInputs.pastValues]: pastRows(values),
      [layerInputs.keySplit]: indexTensor([past, count], [2]),
    };
  }

  #tiles({ tiles, queries, keys, mask, ...rows }: AttentionTiles): Feeds {
    const { heads, kvHeads } = this.#config;
    const groupQueries = (heads / kvHeads) * queries;
    const byHead = (names: Int32Array, count: number) => int32Tensor(names, [names.length / count, count]);
    return {
      [layerInputs.mask]: floatTensor(mask, [tiles, 1, groupQueries, keys]),
      [layerInputs.queryRows]: int32Tensor(rows.queryRows, [tiles, kvHeads, groupQueries]),
      [layerInputs.tokenRows]: byHead(rows.tokenRows, heads),
      [layerInputs.keyRows]: int32Tensor(rows.keyRows, [tiles, kvHeads, keys]),
      [layerInputs.keyTokenRows]: byHead(rows.keyTokenRows, kvHeads),
    };
  }

  /** Projections without a module get one rank of zeros. */
  adapter(modules: readonly TrainedModule[]): Feeds {
    return Object.assign({}, this.#absent, ...modules.map(moduleFeeds));
  }

  /** Of the same adapter. */
  ranks(modules: readonly TrainedModule[]): Feeds {
    const rankOf = (projection: Projection) =>
      modules.find((module) => module.projection === projection)?.rank ?? 1;
    const rows = Object.values(readTogether).map((together) => [
      layerInputs.ranks(together),
      indexTensor(together.map(rankOf), [together.length]),
    ]);
    return Object.fromEntries(rows);
  }
}

function absentModules(config: ModelConfig): Feeds {
  const { shapes } = adapterTargets(config);
  const zeros = (projection: Projection): TrainedModule => ({
    layer: 0,
    projection,
    rank: 1,
    scale: 0,
    a: new Float32Array(shapes[projection].in),
    b: new Float32Array(shapes[projection].out),
  });
  return Object.assign({}, ...projections.map((projection) => moduleFeeds(zeros(projection))));
}

function moduleFeeds({ projection, rank, scale, a, b }: TrainedModule): Feeds {
  return {
    [layerInputs.a(projection)]: floatTensor(a, [rank, a.length / rank]),
    [layerInputs.b(projection)]: floatTensor(b, [rank, b.length / rank]),
    [layerInputs.scale(projection)]: floatTensor(Float32Array.of(scale), [1]),
  };
}
