// The whole forward pass in plain TypeScript: one sequence, no cache, no batch, float64 sums, weights straight from
// the checkpoint. A second oracle beside the goldens; slow.

import { type DecodedAdapter, modulesOf, type Projection } from "../adapter.ts";
import type { CheckpointWeights } from "../checkpoint/weights.ts";
import type { ModelConfig, RotaryConfig } from "../model-config.ts";
import {
  embeddingTensor,
  finalNormTensor,
  headTensor,
  type LayerTensors,
  type LinearTensors,
} from "../model-family.ts";

type Vector = readonly number[];

export type ReferenceModel = {
  readonly config: ModelConfig;
  readonly layers: readonly LayerTensors[];
  readonly normOffset: 0 | 1;
  readonly weights: CheckpointWeights;
};

/** @returns logits [tokens][vocab] */
export function referenceForward(
  model: ReferenceModel,
  tokenIds: readonly number[],
  adapter: DecodedAdapter | null,
): Vector[] {
  const { config, weights, layers } = model;
  const embeddings = weights.readFloat32(embeddingTensor); // [vocab, hidden]
  const row = (table: Float32Array, index: number) =>
    Array.from(table.subarray(index * config.hiddenSize, (index + 1) * config.hiddenSize));
  let hidden: Vector[] = tokenIds.map((id) => row(embeddings, id).map((x) => x * config.embeddingScale));
  for (const [index, layer] of layers.entries()) {
    const map = new LayerMaps(model, adapter, index);
    const attended = attention(model, map, hidden, index);
    hidden = hidden.map((x, token) => add(x, map.norm(layer.attentionOutputNorm, attended[token]!)));
    hidden = hidden.map((x) => {
      const normed = map.norm(layer.mlpNorm, x);
      const gate = map.linear("gate", normed).map((value) => activate(value, config.activation));
      const inner = map.linear("up", normed).map((value, i) => value * gate[i]!);
      return add(x, map.norm(layer.mlpOutputNorm, map.linear("down", inner)));
    });
  }
  const last = new LayerMaps(model, null, 0);
  const head = config.tiedHead ? embeddings : weights.readFloat32(headTensor);
  return hidden.map((x) => {
    const normed = last.norm(finalNormTensor, x);
    return Array.from({ length: config.vocabSize }, (_, id) => dot(row(head, id), normed));
  });
}

/** @returns [tokens][hidden], before the norm on attention's output */
function attention(
  { config, layers }: ReferenceModel,
  map: LayerMaps,
  hidden: readonly Vector[],
  index: number,
): Vector[] {
  const { heads, kvHeads, attentionScale } = config;
  const layer = layers[index]!;
  const rotary = config.rotaries[config.layerRotary[index]!]!;
  const window = config.layerWindow[index] ?? Number.POSITIVE_INFINITY;
  const normed = hidden.map((x) => map.norm(layer.attentionNorm, x));
  const split = (x: Vector, count: number) =>
    Array.from({ length: count }, (_, head) => x.slice(head * config.headDim, (head + 1) * config.headDim));
  const rotated = (projection: "q" | "k", norm: string | null, count: number) =>
    normed.map((x, position) =>
      split(map.linear(projection, x), count).map((head) => rotate(map.norm(norm, head), position, rotary)),
    ); // [tokens][heads][headDim]
  const queries = rotated("q", layer.queryNorm, heads);
  const keys = rotated("k", layer.keyNorm, kvHeads);
  const values = normed.map((x) => split(map.linear("v", x), kvHeads));
  return queries.map((perHead, position) => {
    const context = perHead.flatMap((query, head) => {
      const kvHead = Math.floor(head / (heads / kvHeads));
      const first = Math.max(0, position - window + 1);
      const seen = keys
        .slice(first, position + 1)
        .map((key) => Math.exp(dot(query, key[kvHead]!) * attentionScale));
      const sum = seen.reduce((total, weight) => total + weight, 0);
      const mean = Array<number>(config.headDim).fill(0);
      for (const [at, weight] of seen.entries()) {
        for (const [i, value] of values[first + at]![kvHead]!.entries()) mean[i]! += (weight / sum) * value;
      }
      return mean;
    });
    return map.linear("o", context);
  });
}

/** Linear maps and norms of one layer. */
class LayerMaps {
  readonly #model: ReferenceModel;
  readonly #adapter: DecodedAdapter | null;
  readonly #index: number;

  constructor(model: ReferenceModel, adapter: DecodedAdapter | null, index: number) {
    this.#model = model;
    this.#adapter = adapter;
    this.#index = index;
  }

  /** y = W x + bias + (x aᵀ) b */
  linear(projection: Projection, x: Vector): number[] {
    const { weights, layers } = this.#model;
    const tensors: LinearTensors = layers[this.#index]![projection];
    const { name, firstRow, rows } = tensors.weight;
    const matrix = weights.readFloat32Rows(name, firstRow, rows); // [out, in]
    const y = Array.from({ length: rows }, (_, out) =>
      dot(matrix.subarray(out * x.length, (out + 1) * x.length), x),
    );
    if (tensors.bias !== null) {
      const bias = weights.readFloat32Rows(tensors.bias.name, tensors.bias.firstRow, rows);
      for (let out = 0; out < rows; out++) y[out]! += bias[out]!;
    }
    const lowRank = this.#adapter === null ? [] : modulesOf(this.#adapter, "low-rank");
    for (const { layer, projection: target, rank, a, b } of lowRank) {
      if (layer !== this.#index || target !== projection) continue;
      for (let j = 0; j < rank; j++) {
        const read = dot(a.subarray(j * x.length, (j + 1) * x.length), x);
        for (let out = 0; out < rows; out++) y[out]! += read * b[j * rows + out]!;
      }
    }
    return y;
  }

  /** Root-mean-square norm, arXiv 1910.07467; the identity where the family has none. */
  norm(name: string | null, x: Vector): Vector {
    if (name === null) return x;
    const { weights, normOffset, config } = this.#model;
    const weight = weights.readFloat32(name);
    const root = Math.sqrt(dot(x, x) / x.length + config.normEpsilon);
    return x.map((value, i) => (value / root) * (weight[i]! + normOffset));
  }
}

/** Half-rotation of the first `dimensions` of a head. Scaling is rotary.test.ts's business: only "default" here. */
function rotate(head: Vector, position: number, { theta, dimensions, scaling }: RotaryConfig): Vector {
  if (scaling.type !== "default") throw new RangeError(`the reference has no ${scaling.type} scaling`);
  const half = dimensions / 2;
  return head.map((value, i) => {
    if (i >= dimensions) return value;
    const angle = position * theta ** (-(2 * (i % half)) / dimensions);
    const other = i < half ? -head[i + half]! : head[i - half]!;
    return value * Math.cos(angle) + other * Math.sin(angle);
  });
}

function activate(x: number, activation: ModelConfig["activation"]): number {
  if (activation === "silu") return x / (1 + Math.exp(-x));
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

function dot(x: ArrayLike<number>, y: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
}

function add(x: Vector, y: Vector): Vector {
  return x.map((value, i) => value + y[i]!);
}
