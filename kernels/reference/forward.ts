// The whole forward pass in plain TypeScript: one sequence, no cache, no batch, float64 sums, weights straight from
// the checkpoint. A second oracle beside the goldens; slow.

import {
  type AdapterKind,
  type AdapterModule,
  type DecodedAdapter,
  modulesOf,
  type Projection,
} from "../adapter.ts";
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

/** @returns logits [tokens][vocab], of the given tokens and not of virtual ones in front of them */
export function referenceForward(
  model: ReferenceModel,
  tokenIds: readonly number[],
  adapter: DecodedAdapter | null,
): Vector[] {
  const { config, weights, layers } = model;
  let hidden = embed(model, tokenIds, adapter);
  for (const [index, layer] of layers.entries()) {
    const map = new LayerMaps(model, adapter, index);
    const attended = attention(model, map, hidden, adapter);
    hidden = hidden.map((x, token) => add(x, map.norm(layer.attentionOutputNorm, attended[token]!)));
    hidden = hidden.map((x) => {
      const normed = map.norm(layer.mlpNorm, x);
      const gate = map.linear("gate", normed).map((value) => activate(value, config.activation));
      const inner = map.linear("up", normed).map((value, i) => value * gate[i]!);
      return add(x, map.norm(layer.mlpOutputNorm, map.linear("down", inner)));
    });
  }
  const last = new LayerMaps(model, null, 0);
  const head = weights.readFloat32(config.tiedHead ? embeddingTensor : headTensor);
  return hidden.slice(-tokenIds.length).map((x) => {
    const normed = last.norm(finalNormTensor, x);
    const logits = Array.from({ length: config.vocabSize }, (_, id) =>
      dot(rowOf(head, id, x.length), normed),
    );
    for (const module of modulesOfKind(adapter, "head")) addLowRank(logits, normed, module);
    return logits;
  });
}

/** @returns [virtual tokens and tokens][hidden] */
function embed(
  { config, weights }: ReferenceModel,
  tokenIds: readonly number[],
  adapter: DecodedAdapter | null,
): Vector[] {
  const { hiddenSize } = config;
  const table = weights.readFloat32(embeddingTensor); // [vocab, hidden]
  const looked = tokenIds.map((id) => {
    const x = Array.from(rowOf(table, id, hiddenSize), (value) => value * config.embeddingScale);
    for (const { a, b, rank } of modulesOfKind(adapter, "embedding")) {
      for (let i = 0; i < hiddenSize; i++) {
        for (let j = 0; j < rank; j++) x[i]! += a[id * rank + j]! * b[j * hiddenSize + i]!;
      }
    }
    return x;
  });
  const prompt = modulesOfKind(adapter, "soft-prompt").flatMap(({ tokens, hidden }) =>
    Array.from({ length: tokens }, (_, token) => Array.from(rowOf(hidden, token, hiddenSize))),
  );
  return [...prompt, ...looked];
}

/** @returns [tokens][hidden], before the norm on attention's output */
function attention(
  { config, layers }: ReferenceModel,
  map: LayerMaps,
  hidden: readonly Vector[],
  adapter: DecodedAdapter | null,
): Vector[] {
  const { heads, kvHeads, headDim, attentionScale } = config;
  const layer = layers[map.index]!;
  const rotary = config.rotaries[config.layerRotary[map.index]!]!;
  const window = config.layerWindow[map.index] ?? Number.POSITIVE_INFINITY;
  const normed = hidden.map((x) => map.norm(layer.attentionNorm, x));
  const split = (x: Vector, count: number) =>
    Array.from({ length: count }, (_, head) => x.slice(head * headDim, (head + 1) * headDim));
  const prefixes = modulesOfKind(adapter, "prefix").filter((module) => module.layer === map.index);
  const prefixTokens = prefixes.reduce((sum, { tokens }) => sum + tokens, 0);
  const rotated = (projection: "q" | "k", norm: string | null, count: number) =>
    normed.map((x, token) =>
      split(map.linear(projection, x), count).map((head) =>
        rotate(map.norm(norm, head), prefixTokens + token, rotary),
      ),
    ); // [tokens][heads][headDim]
  // Virtual tokens' rows, [tokens][kvHeads][headDim], from [kvHeads, tokens, headDim]
  const virtual = (which: "keys" | "values") =>
    prefixes.flatMap((module) =>
      Array.from({ length: module.tokens }, (_, token) =>
        Array.from({ length: kvHeads }, (_, head) =>
          Array.from(rowOf(module[which], head * module.tokens + token, headDim)),
        ),
      ),
    );
  const queries = rotated("q", layer.queryNorm, heads);
  const keys = [...virtual("keys"), ...rotated("k", layer.keyNorm, kvHeads)];
  const values = [...virtual("values"), ...normed.map((x) => split(map.linear("v", x), kvHeads))];
  return queries.map((perHead, token) => {
    const position = prefixTokens + token;
    const context = perHead.flatMap((query, head) => {
      const kvHead = Math.floor(head / (heads / kvHeads));
      const first = Math.max(0, position - window + 1);
      const seen = keys
        .slice(first, position + 1)
        .map((key) => Math.exp(dot(query, key[kvHead]!) * attentionScale));
      const sum = seen.reduce((total, weight) => total + weight, 0);
      const mean = Array<number>(headDim).fill(0);
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
  readonly index: number;
  readonly #model: ReferenceModel;
  readonly #adapter: DecodedAdapter | null;

  constructor(model: ReferenceModel, adapter: DecodedAdapter | null, index: number) {
    this.#model = model;
    this.#adapter = adapter;
    this.index = index;
  }

  /** y = (W x + bias + (x aᵀ) b + x[channels] b + (what is sparse) x) scale + shift */
  linear(projection: Projection, x: Vector): number[] {
    const { weights, layers } = this.#model;
    const tensors: LinearTensors = layers[this.index]![projection];
    const { name, firstRow, rows } = tensors.weight;
    const matrix = weights.readFloat32Rows(name, firstRow, rows); // [out, in]
    const y = Array.from({ length: rows }, (_, out) => dot(rowOf(matrix, out, x.length), x));
    if (tensors.bias !== null) {
      const bias = weights.readFloat32Rows(tensors.bias.name, tensors.bias.firstRow, rows);
      for (let out = 0; out < rows; out++) y[out]! += bias[out]!;
    }
    for (const module of this.#modules("low-rank", projection)) addLowRank(y, x, module);
    for (const { channels, b } of this.#modules("channels", projection)) {
      for (const [at, channel] of channels.entries()) {
        for (let out = 0; out < rows; out++) y[out]! += x[channel]! * b[at * rows + out]!;
      }
    }
    for (const { indices, values } of this.#modules("sparse", projection)) {
      for (const [at, index] of indices.entries()) {
        y[Math.floor(index / x.length)]! += values[at]! * x[index % x.length]!;
      }
    }
    for (const { scale, shift } of this.#modules("scale", projection)) {
      for (let out = 0; out < rows; out++) y[out] = y[out]! * scale[out]! + (shift?.[out] ?? 0);
    }
    return y;
  }

  #modules<Kind extends "low-rank" | "channels" | "sparse" | "scale">(kind: Kind, projection: Projection) {
    const isHere = (module: AdapterModule) =>
      "projection" in module && module.layer === this.index && module.projection === projection;
    return modulesOfKind(this.#adapter, kind).filter(isHere);
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

function modulesOfKind<Kind extends AdapterKind>(adapter: DecodedAdapter | null, kind: Kind) {
  return adapter === null ? [] : modulesOf(adapter, kind);
}

/** y += (x aᵀ) b */
function addLowRank(
  y: number[],
  x: Vector,
  { rank, a, b }: { readonly rank: number; readonly a: Float32Array; readonly b: Float32Array },
): void {
  for (let j = 0; j < rank; j++) {
    const read = dot(rowOf(a, j, x.length), x);
    for (let out = 0; out < y.length; out++) y[out]! += read * b[j * y.length + out]!;
  }
}

function activate(x: number, activation: ModelConfig["activation"]): number {
  if (activation === "silu") return x / (1 + Math.exp(-x));
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

function rowOf(table: Float32Array, row: number, width: number): Float32Array {
  return table.subarray(row * width, (row + 1) * width);
}

function dot(x: ArrayLike<number>, y: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
}

function add(x: Vector, y: Vector): Vector {
  return x.map((value, i) => value + y[i]!);
}
