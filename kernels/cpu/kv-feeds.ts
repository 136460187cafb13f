// The attention side of a run's inputs: positions, rotary rows, masks, and the cached keys and values.

import { inputNames } from "../forward-graph.ts";
import type { ModelConfig } from "../model-config.ts";
import type { PrefillChunk } from "../model-runner.ts";
import { RotaryTable } from "../rotary.ts";
import { type Feeds, floatTensor, indexTensor } from "../session.ts";
import { fillDecodeMask, fillPrefillMask } from "./attention-mask.ts";

/** Consecutive tokens of one sequence; `length` is what dynamic scaling takes as the sequence's length. */
export type PositionRun = { readonly position: number; readonly count: number; readonly length: number };

export class KvFeeds {
  readonly #config: ModelConfig;
  readonly #rotaries: readonly RotaryTable[];
  readonly #windows: ReadonlySet<number | null>;

  constructor(config: ModelConfig) {
    this.#config = config;
    this.#rotaries = config.rotaries.map((rotary) => new RotaryTable(rotary));
    this.#windows = new Set(config.layerWindow);
  }

  /** What depends on shapes alone: rows of `tokens` new tokens over `capacity` cached ones. */
  shapes(rows: number, tokens: number, capacity: number): Feeds {
    const { heads, kvHeads, headDim } = this.#config;
    const groups = heads / kvHeads;
    // With one kv head, the products of a single row would be made one of several rows, with other bits.
    const queries = tokens === 1 && kvHeads > 1 ? [groups, 1] : [1, groups * tokens];
    return {
      [inputNames.positions]: indexTensor(indexes(rows * tokens), [rows, tokens]),
      [inputNames.scoreSplit]: indexTensor([capacity, tokens], [2]),
      [inputNames.headsShape]: indexTensor([rows, tokens, heads + 2 * kvHeads, headDim], [4]),
      [inputNames.queriesShape]: indexTensor([rows, kvHeads, ...queries, headDim], [5]),
    };
  }

  /** @param pieces keys and values of each layer in turn, [rows, kvHeads, capacity, headDim] */
  past(pieces: readonly Float32Array[], rows: number, capacity: number): Feeds {
    const { layers, kvHeads, headDim } = this.#config;
    const dims = [rows, kvHeads, 1, capacity, headDim];
    const feeds: Feeds = {};
    for (let layer = 0; layer < layers; layer++) {
      feeds[inputNames.pastKeys(layer)] = floatTensor(pieces[layer * 2]!, dims);
      feeds[inputNames.pastValues(layer)] = floatTensor(pieces[layer * 2 + 1]!, dims);
    }
    return feeds;
  }

  rotary(runs: readonly PositionRun[]): Feeds {
    const tokens = runs.reduce((sum, { count }) => sum + count, 0);
    const feeds: Feeds = {};
    for (const [index, table] of this.#rotaries.entries()) {
      const cos = new Float32Array(tokens * table.halfDimensions);
      const sin = new Float32Array(cos.length);
      let row = 0;
      for (const { position, count, length } of runs) {
        table.fill({ cos, sin, row }, position, count, length);
        row += count;
      }
      feeds[inputNames.cos(index)] = floatTensor(cos, [tokens, table.halfDimensions]);
      feeds[inputNames.sin(index)] = floatTensor(sin, [tokens, table.halfDimensions]);
    }
    return feeds;
  }

  decodeMasks(lengths: readonly number[], capacity: number): Feeds {
    return this.#masks((window) => {
      const mask = fillDecodeMask({ lengths, capacity, window });
      return floatTensor(mask, [lengths.length, 1, 1, 1, capacity + 1]);
    });
  }

  prefillMasks(past: number, count: number): Feeds {
    const { heads, kvHeads } = this.#config;
    const groups = heads / kvHeads;
    return this.#masks((window) => {
      const mask = fillPrefillMask({ past, count, groups, window });
      // One token needs no repetition over the query heads of a group: the mask's row is broadcast.
      return floatTensor(mask, [1, 1, 1, count === 1 ? 1 : count * groups, past + count]);
    });
  }

  #masks(make: (window: number | null) => Feeds[string]): Feeds {
    const feeds: Feeds = {};
    for (const window of this.#windows) feeds[inputNames.mask(window !== null)] = make(window);
    return feeds;
  }
}

/** 0, 1, ..., count - 1 */
export function indexes(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

/** Which of a chunk's tokens have logits. */
export function wantedTokens(logits: PrefillChunk["logits"], count: number): number[] {
  if (logits === "all") return indexes(count);
  return logits === "last" ? [count - 1] : [];
}
