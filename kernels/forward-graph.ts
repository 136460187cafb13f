// The transformer's forward pass as an ONNX graph: one graph for decode (S = 1, many rows) and for prefill chunks
// (one row, S tokens). Knows shapes and operators; what the rows are, it does not know.
//
// Dimensions: R rows, S new tokens per row, T = R S, C cached tokens per row (padding included), H heads, K kv
// heads, G = H / K, D head dimension. Hidden states and what linear maps make of them flow as [T, width].

import { AdapterGraph, type GraphPlace } from "./adapter-graph.ts";
import { type AdapterSite, adapterSites, type GraphFeatures } from "./adapter-sites.ts";
import type { ModelConfig } from "./model-config.ts";
import { adapterTargets } from "./model-family.ts";
import { elementTypes, GraphBuilder } from "./onnx/graph-builder.ts";
import {
  encodingBits,
  isQuantized,
  type PreparedLayer,
  type PreparedLayout,
  type PreparedMatrix,
  type PreparedVector,
} from "./prepare/layout.ts";
import { blockSize, blocksPerRow, packedRowBytes } from "./prepare/quantize-blocks.ts";

/** Names of the graph's inputs but the adapters'; shapes as fed. */
export const inputNames = {
  hidden: "hidden", // [T, hidden], embeddings already scaled; with paired tokens T is R S or one more
  tokenCount: "token_count", // [1], R S, where tokens are paired
  attendedBeside: "attended_beside", // [T - R S, H D], what attention makes of the others, where tokens are paired
  positions: "positions", // [R, S], rows of cos and sin
  cos: (rotary: number) => `cos.${rotary}`, // [R S, rotated / 2]
  sin: (rotary: number) => `sin.${rotary}`,
  mask: (windowed: boolean) => (windowed ? "mask.window" : "mask"), // [R, 1, 1, S = 1 ? 1 : G S, C + S], added
  scoreSplit: "score_split", // [C, S]
  headsShape: "shape.heads", // [R, S, H + 2 K, D]
  queriesShape: "shape.queries", // S = 1 and K > 1 ? [R, K, G, 1, D] : [R, K, 1, G S, D]
  logitRows: "logit_rows", // [n], tokens whose logits are wanted
  pastKeys: (layer: number) => `past.k.${layer}`, // [R, K, 1, C, D]
  pastValues: (layer: number) => `past.v.${layer}`,
} as const;

export const outputNames = {
  logits: "logits", // [n, vocab]
  newKeyValues: "kv", // [layers * 2 * R, K, S, D], per layer keys, then values
} as const;

export type ForwardGraphOptions = {
  readonly config: ModelConfig;
  readonly layout: PreparedLayout;
  readonly dataFile: string;
  readonly features: GraphFeatures | null; // null leaves adapters out
  readonly exactActivations?: boolean; // quantized matrices are multiplied by activations that are not quantized
};

/** @returns the model as ONNX's protobuf; its weights lie in `dataFile` beside it */
export function buildForwardGraph({ layout, features, ...options }: ForwardGraphOptions): Uint8Array {
  const adapters: BuilderOptions["adapters"] = (graph, sites) =>
    new AdapterGraph(graph, features === null ? [] : sites, {
      features: features ?? new Set(),
      ranksLast: false,
    });
  const builder = new ForwardBuilder({ ...options, adapters, pairedTokens: pairsTokens(layout) });
  builder.build(layout);
  return builder.graph.finish();
}

/**
 * Whether a run on the CPU has an even number of tokens: the runtime's quantized products round a last odd one otherwise
 * (docs/quantization.md).
 */
export function pairsTokens({ head }: PreparedLayout): boolean {
  return isQuantized(head.encoding);
}

export type BuilderOptions = Pick<ForwardGraphOptions, "config" | "dataFile" | "exactActivations"> & {
  readonly adapters: (graph: GraphBuilder, sites: readonly AdapterSite[]) => AdapterGraph;
  readonly pairedTokens?: boolean; // all but attention sees an even number of tokens
};

/** Of a layer's new tokens; queries scaled, queries and keys rotated. */
export type NewHeads = { readonly queries: string; readonly keys: string; readonly values: string };

/** What a device does otherwise, its builder overrides (kernels/webgpu/webgpu-graph.ts). */
export class ForwardBuilder {
  readonly graph: GraphBuilder;
  protected readonly config: ModelConfig;
  readonly #adapters: AdapterGraph;
  readonly #accuracyLevel: number;
  readonly #pairedTokens: boolean;
  readonly #newKeyValues: string[] = [];

  constructor({ config, dataFile, adapters, exactActivations, pairedTokens }: BuilderOptions) {
    this.config = config;
    this.graph = new GraphBuilder(dataFile);
    this.#adapters = adapters(this.graph, adapterSites(adapterTargets(config)));
    this.#accuracyLevel = exactActivations ? 0 : 4;
    this.#pairedTokens = pairedTokens ?? false;
  }

  build(layout: PreparedLayout): void {
    const { graph } = this;
    this.#declareInputs();
    let residual = this.#adapters.embed(this.embedded());
    let addend: string | null = null; // what the layer before adds to the residual
    for (const [index, layer] of layout.layers.entries()) {
      const attention = this.#addAndNorm(residual, addend, layer.attentionNorm);
      const attended = this.#attention(attention.normed, index, layer);
      const mlp = this.#addAndNorm(attention.residual, attended, layer.mlpNorm);
      residual = mlp.residual;
      addend = this.#mlp(mlp.normed, index, layer);
    }
    const last = this.#addAndNorm(residual, addend, layout.finalNorm);
    const [wanted] = graph.node("Gather", [last.normed, inputNames.logitRows], { attributes: { axis: 0 } });
    this.#linear(wanted!, { layer: 0, site: "head", output: outputNames.logits }, layout.head, null);
    graph.output(outputNames.logits, "float32", ["n", this.config.vocabSize]);
    this.returnKeyValues();
  }

  /** @returns the hidden states that the first layer reads, [T, hidden] */
  protected embedded(): string {
    return inputNames.hidden;
  }

  protected returnKeyValues(): void {
    const { graph } = this;
    graph.node("Concat", this.#newKeyValues, {
      outputs: [outputNames.newKeyValues],
      attributes: { axis: 0 },
    });
    graph.output(outputNames.newKeyValues, "float32", ["LR", this.config.kvHeads, "S", this.config.headDim]);
  }

  /** The inputs of `embedded` and `attend`. */
  protected declareState(): void {
    const { graph } = this;
    const { hiddenSize, kvHeads, headDim, layers, layerWindow } = this.config;
    graph.input(inputNames.hidden, "float32", ["T", hiddenSize]);
    for (const windowed of new Set(layerWindow.map((window) => window !== null))) {
      graph.input(inputNames.mask(windowed), "float32", ["R", 1, 1, "queries", "keys"]);
    }
    graph.input(inputNames.scoreSplit, "int64", [2]);
    graph.input(inputNames.queriesShape, "int64", [5]);
    for (let layer = 0; layer < layers; layer++) {
      graph.input(inputNames.pastKeys(layer), "float32", ["R", kvHeads, 1, "C", headDim]);
      graph.input(inputNames.pastValues(layer), "float32", ["R", kvHeads, 1, "C", headDim]);
    }
  }

  #declareInputs(): void {
    const { graph } = this;
    graph.input(inputNames.positions, "int64", ["R", "S"]);
    for (const [index, rotary] of this.config.rotaries.entries()) {
      graph.input(inputNames.cos(index), "float32", ["RS", rotary.dimensions / 2]);
      graph.input(inputNames.sin(index), "float32", ["RS", rotary.dimensions / 2]);
    }
    graph.input(inputNames.headsShape, "int64", [4]);
    if (this.#pairedTokens) {
      graph.input(inputNames.tokenCount, "int64", [1]);
      const { heads, headDim } = this.config;
      graph.input(inputNames.attendedBeside, "float32", ["beside", heads * headDim]);
    }
    graph.input(inputNames.logitRows, "int64", ["n"]);
    this.#adapters.declareInputs();
    this.declareState();
  }

  #attention(normed: string, layer: number, weights: PreparedLayer): string {
    const { graph } = this;
    const { heads, kvHeads, headDim } = this.config;
    const fused = this.#linear(normed, { layer, site: "qkv" }, weights.qkv, weights.qkvBias);
    const [perHead] = graph.node("Reshape", [this.#attending(fused), inputNames.headsShape]);
    const [headMajor] = graph.node("Transpose", [perHead!], { attributes: { perm: [0, 2, 1, 3] } });
    const split = graph.node("Split", [headMajor!, graph.integers([heads, kvHeads, kvHeads])], {
      outputs: 3,
      attributes: { axis: 1 },
    });
    const values = split[2]!; // [R, K, S, D]
    const keys = this.#rotate(this.#optionalNorm(split[1]!, weights.keyNorm), layer, kvHeads);
    const rotated = this.#rotate(this.#optionalNorm(split[0]!, weights.queryNorm), layer, heads);
    const context = this.attend({ queries: this.#scaled(rotated), keys, values }, layer);
    const [tokenMajor] = graph.node("Transpose", [this.reshape(context, [0, heads, -1, headDim])], {
      attributes: { perm: [0, 2, 1, 3] },
    });
    const flat = this.reshape(tokenMajor!, [-1, heads * headDim]);
    const output = this.#linear(this.#withThoseBeside(flat), { layer, site: "o" }, weights.o, weights.oBias);
    return this.#optionalNorm(output, weights.attentionOutputNorm);
  }

  /** Without the token that only makes their number even. */
  #attending(x: string): string {
    if (!this.#pairedTokens) return x;
    const { graph } = this;
    return graph.node("Slice", [x, graph.integers([0]), inputNames.tokenCount, graph.integers([0])])[0]!;
  }

  #withThoseBeside(attended: string): string {
    if (!this.#pairedTokens) return attended;
    return this.graph.node("Concat", [attended, inputNames.attendedBeside], { attributes: { axis: 0 } })[0]!;
  }

  /**
   * @param made of the new tokens: queries [R, H, S, D], keys and values [R, K, S, D]
   * @returns what each query takes of the values, in an order that a reshape makes [R, H, S, D]
   */
  protected attend({ queries: rotated, keys, values }: NewHeads, layer: number): string {
    const { graph } = this;
    this.#newKeyValues.push(keys, values);
    // A prompt's G query heads of a kv head are G S rows of one matrix. One token's are G products of one row, for
    // which the runtime has kernels that do not copy keys and values first; they want no factor on the product.
    const [queries] = graph.node("Reshape", [rotated, inputNames.queriesShape]);
    const ownMatrix = (x: string) => graph.node("Unsqueeze", [x, graph.integers([2])])[0]!; // [R, K, 1, S, D]
    const score = (against: string) =>
      graph.contrib("FusedMatMul", [queries!, against], { attributes: { transB: 1 } })[0]!;
    const [scores] = graph.node("Concat", [score(inputNames.pastKeys(layer)), score(ownMatrix(keys))], {
      attributes: { axis: -1 },
    });
    const mask = inputNames.mask(this.config.layerWindow[layer] !== null);
    const [masked] = graph.node("Add", [scores!, mask]);
    const [attention] = graph.node("Softmax", [masked!], { attributes: { axis: -1 } });
    const [onPast, onNew] = graph.node("Split", [attention!, inputNames.scoreSplit], {
      outputs: 2,
      attributes: { axis: -1 },
    });
    const [fromPast] = graph.node("MatMul", [onPast!, inputNames.pastValues(layer)]);
    const [fromNew] = graph.node("MatMul", [onNew!, ownMatrix(values)]);
    return graph.node("Add", [fromPast!, fromNew!])[0]!;
  }

  #mlp(normed: string, layer: number, weights: PreparedLayer): string {
    const { graph } = this;
    const gate = this.#linear(normed, { layer, site: "gate" }, weights.gate, weights.gateBias);
    const up = this.#linear(normed, { layer, site: "up" }, weights.up, weights.upBias);
    const [activated] =
      this.config.activation === "silu"
        ? graph.contrib("QuickGelu", [gate], { attributes: { alpha: { float: 1 } } }) // x sigmoid(x)
        : graph.contrib("FastGelu", [gate]);
    const [product] = graph.node("Mul", [activated!, up]);
    const output = this.#linear(product!, { layer, site: "down" }, weights.down, weights.downBias);
    return this.#optionalNorm(output, weights.mlpOutputNorm);
  }

  /** The base's linear map plus its adapters. */
  #linear(x: string, at: GraphPlace, matrix: PreparedMatrix, bias: PreparedVector | null): string {
    if (!this.#adapters.serves(at.site)) return this.#matmul(x, matrix, bias, at.output);
    return this.#adapters.apply(x, this.#matmul(x, matrix, bias), at);
  }

  #matmul(x: string, matrix: PreparedMatrix, bias: PreparedVector | null, output?: string): string {
    const { graph } = this;
    const outputs = output === undefined ? 1 : [output];
    const biasName = bias === null ? null : this.#vector(bias);
    const { name, rows, columns, encoding, data, scales } = matrix;
    if (!isQuantized(encoding)) return this.floatProduct([x, this.#floats(matrix)], biasName, outputs);
    const bits = encodingBits[encoding];
    const blocks = blocksPerRow(columns);
    const packed = graph.external(
      name,
      "uint8",
      [rows, blocks, packedRowBytes(columns, bits) / blocks],
      data,
    );
    const scale = graph.external(`${name}.scales`, "float32", [rows * blocks], scales);
    const inputs = biasName === null ? [x, packed, scale] : [x, packed, scale, "", "", biasName];
    return graph.contrib("MatMulNBits", inputs, {
      outputs,
      attributes: { K: columns, N: rows, bits, block_size: blockSize, accuracy_level: this.#accuracyLevel },
    })[0]!;
  }

  /** [rows, columns] */
  #floats(matrix: PreparedMatrix): string {
    const { name, rows, columns, encoding, data } = matrix;
    if (encoding !== "float16") return this.graph.external(name, "float32", [rows, columns], data);
    return this.graph.node("Cast", [this.halves(matrix)], { attributes: { to: elementTypes.float32 } })[0]!;
  }

  /** Weights as float16, [rows, columns]. The CPU widens them once, when it opens the graph. */
  protected halves({ name, rows, columns, data }: PreparedMatrix): string {
    return this.graph.external(name, "float16", [rows, columns], data);
  }

  /** x Wᵀ + bias, of weights that are not quantized */
  protected floatProduct(
    factors: readonly [x: string, weight: string],
    bias: string | null,
    outputs: number | readonly string[],
  ): string {
    const [y] = this.graph.contrib("FusedMatMul", factors, { outputs, attributes: { transB: 1 } });
    return bias === null ? y! : this.graph.node("Add", [y!, bias])[0]!;
  }

  #addAndNorm(
    residual: string,
    addend: string | null,
    norm: PreparedVector,
  ): { normed: string; residual: string } {
    const { graph } = this;
    const weight = this.#vector(norm);
    const attributes = { epsilon: { float: this.config.normEpsilon } };
    if (addend === null) {
      const [normed] = graph.node("SimplifiedLayerNormalization", [residual, weight], {
        attributes: { ...attributes, axis: -1 },
      });
      return { normed: normed!, residual };
    }
    const outputs = graph.contrib("SkipSimplifiedLayerNormalization", [residual, addend, weight], {
      outputs: [`${norm.name}.normed`, "", "", `${norm.name}.sum`],
      attributes,
    });
    return { normed: outputs[0]!, residual: outputs[3]! };
  }

  #scaled(queries: string): string {
    const { attentionScale } = this.config;
    if (attentionScale === 1) return queries;
    return this.graph.node("Mul", [queries, this.graph.float(attentionScale)])[0]!;
  }

  #optionalNorm(x: string, norm: PreparedVector | null): string {
    return norm === null ? x : this.#addAndNorm(x, null, norm).normed;
  }

  #rotate(x: string, layer: number, heads: number): string {
    const index = this.config.layerRotary[layer]!;
    const { dimensions } = this.config.rotaries[index]!;
    const partial =
      dimensions < this.config.headDim ? { rotary_embedding_dim: dimensions, num_heads: heads } : {};
    return this.graph.contrib(
      "RotaryEmbedding",
      [x, inputNames.positions, inputNames.cos(index), inputNames.sin(index)],
      { attributes: { interleaved: 0, ...partial } },
    )[0]!;
  }

  protected reshape(x: string, shape: readonly number[]): string {
    return this.graph.node("Reshape", [x, this.graph.integers(shape)])[0]!;
  }

  #vector(vector: PreparedVector): string {
    return this.graph.external(vector.name, "float32", [vector.length], vector.data);
  }
}
