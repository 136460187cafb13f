// What a run reads besides weights and adapters: its new tokens, where they go, and the keys and values that they are
// added to.

import { indexes, type PositionRun } from "../cpu/kv-feeds.ts";
import { inputNames } from "../forward-graph.ts";
import type { ModelConfig } from "../model-config.ts";
import { type Feeds, floatTensor, indexTensor, int32Tensor } from "../session.ts";
import type { KvBuffers } from "./gpu-kv-moves.ts";
import { deviceInputs, deviceOutputs } from "./webgpu-graph.ts";

/** New tokens of the rows of one run, equally many in each. */
export type NewTokens = {
  readonly ids: readonly number[]; // [rows, count]; rows of the table
  readonly table?: Feeds[string]; // of hidden states [rows, hidden]; the model's embeddings unless given
  readonly runs: readonly PositionRun[]; // of each row
  readonly wanted: readonly number[]; // tokens whose logits are wanted
  readonly kv: KvBuffers;
};

/** At least one token's logits are computed: the device takes no empty inputs. */
export function tokenFeeds({ ids, runs, wanted }: NewTokens, config: ModelConfig): Feeds {
  const { heads, kvHeads, headDim } = config;
  const rows = runs.length;
  const count = ids.length / rows;
  const groups = heads / kvHeads;
  const placesOf = ({ position }: PositionRun) => indexes(count).map((token) => position + token);
  const places = runs.flatMap(placesOf);
  const queryPlaces = runs.flatMap((run) => Array.from({ length: groups }, () => placesOf(run)).flat());
  return {
    [inputNames.positions]: indexTensor(indexes(ids.length), [rows, count]),
    [inputNames.headsShape]: indexTensor([rows, count, heads + 2 * kvHeads, headDim], [4]),
    [inputNames.logitRows]: indexTensor(wanted.length === 0 ? [0] : wanted, [Math.max(1, wanted.length)]),
    [deviceInputs.tokenIds]: int32Tensor(Int32Array.from(ids), [ids.length]),
    [deviceInputs.places]: int32Tensor(Int32Array.from(places), [rows, 1, count]),
    [deviceInputs.queryPlaces]: floatTensor(Float32Array.from(queryPlaces), [rows, 1, groups * count, 1]),
  };
}

/** Keys and values of the first rows, to be read and to be written. */
export function stateFeeds(
  { buffers, capacity }: KvBuffers,
  rows: number,
  { kvHeads, headDim, layers }: ModelConfig,
): { readonly inputs: Feeds; readonly outputs: Feeds } {
  const inputs: Feeds = {};
  const outputs: Feeds = {};
  for (let layer = 0; layer < layers; layer++) {
    const keys = buffers[layer * 2]!.view([rows, kvHeads, headDim, capacity]);
    const values = buffers[layer * 2 + 1]!.view([rows, kvHeads, capacity, headDim]);
    inputs[deviceInputs.keys(layer)] = keys;
    inputs[deviceInputs.values(layer)] = values;
    outputs[deviceOutputs.keys(layer)] = keys;
    outputs[deviceOutputs.values(layer)] = values;
  }
  return { inputs, outputs };
}
