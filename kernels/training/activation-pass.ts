// What the frozen matrices read, layer by layer: batches of sequences forward through the layers, all through one before
// the next, so that the second moments of one layer alone are held. Knows no adapters; what is made of the moments is
// the caller's business.

import { GraphBuilder } from "../onnx/graph-builder.ts";
import { floatTensor, freeOutput } from "../session.ts";
import type { Step } from "./half-runs.ts";
import { halves, layerOutputs, type MatrixName } from "./layer-names.ts";
import type { TokenLayout, TokenRange } from "./token-layout.ts";
import { addTo } from "./token-rows.ts";
import type { PassParts, TrainingUnit } from "./training-pass.ts";

/** Matrices with inputs of their own: "qkv" is read like q, k and v, "gate" like up. */
export const readMatrices = ["qkv", "o", "gate", "down"] as const satisfies readonly MatrixName[];
export type ReadMatrix = (typeof readMatrices)[number];

export type Moments = {
  rows: number; // tokens so far
  readonly sum: Float64Array; // [in]
  readonly products: Float32Array; // [in, in], the sum of x xᵀ
};

export type LayerMoments = Readonly<Record<ReadMatrix, Moments>>;

type Batch = {
  readonly layout: TokenLayout;
  readonly hidden: Float32Array; // of all windows; is overwritten by each half's output
  readonly into: LayerMoments | null;
};

type BatchState = Batch & { readonly keys: Float32Array; readonly values: Float32Array };

export class ActivationPass {
  readonly #parts: PassParts;
  readonly #batches: readonly TokenLayout[];

  constructor(parts: PassParts, batches: readonly TokenLayout[]) {
    this.#parts = parts;
    this.#batches = batches;
  }

  /**
   * @param observe called after each batch in a layer, with the moments of all batches so far; its units are the
   *   pass's. Once it returns true, the layer's other batches only go through.
   */
  *layers(
    observe: (layer: number, moments: LayerMoments) => Generator<TrainingUnit, boolean, void>,
  ): Generator<TrainingUnit, void, void> {
    const { config, embeddings } = this.#parts;
    const hidden = this.#batches.map(({ tokenIds }) => {
      const rows = new Float32Array(tokenIds.length * config.hiddenSize);
      embeddings.lookup(tokenIds, rows);
      return rows;
    });
    for (let layer = 0; layer < config.layers; layer++) {
      const moments = this.#noMoments();
      let isEnough = false;
      for (const [index, layout] of this.#batches.entries()) {
        const into = isEnough ? null : moments;
        for (const unit of this.#batch(layer, { layout, hidden: hidden[index]!, into })) yield unit;
        isEnough ||= yield* observe(layer, moments);
      }
    }
  }

  /** x y, x being [rows, n] and y [n, n]. */
  async multiply(x: Float32Array, y: Float32Array): Promise<Float32Array> {
    const n = Math.sqrt(y.length);
    const session = await this.#parts.sessions.get("product");
    const outputs = await session.run({
      x: floatTensor(x, [x.length / n, n]),
      y: floatTensor(y, [n, n]),
    });
    return outputs.xy!;
  }

  *#batch(layer: number, batch: Batch): Generator<TrainingUnit, void, void> {
    const { kvHeads, headDim } = this.#parts.config;
    const size = batch.layout.tokenIds.length * kvHeads * headDim;
    const state = { ...batch, keys: new Float32Array(size), values: new Float32Array(size) };
    for (const half of halves) {
      for (const window of batch.layout.windows) {
        const tokens = window.to - window.from;
        yield { kind: "forward", tokens, run: () => this.#forward({ layer, half }, window, state) };
      }
    }
  }

  async #forward({ layer, half }: Step, window: TokenRange, state: BatchState): Promise<void> {
    const { config, feeds, sessions, weights } = this.#parts;
    const { hidden, into } = state;
    const rows = hidden.subarray(window.from * config.hiddenSize, window.to * config.hiddenSize);
    const session = await sessions.get(`${into === null ? "forward" : "moments"} ${half}`);
    const outputs = await session.run({
      ...(await weights.layer(layer, [])).feeds,
      ...feeds.adapter([]),
      ...feeds.ranks([]),
      ...feeds.hidden(rows),
      ...(half === "attention" ? feeds.attention(layer, window, state) : {}),
    });
    rows.set(outputs[layerOutputs.output]!);
    if (half === "attention") {
      const at = window.from * config.kvHeads * config.headDim;
      state.keys.set(outputs[layerOutputs.keys]!, at);
      state.values.set(outputs[layerOutputs.values]!, at);
    }
    for (const matrix of into === null ? [] : readMatrices) {
      const sum = outputs[layerOutputs.sumReadBy(matrix)];
      if (sum === undefined) continue; // the other half's
      const own = into![matrix];
      addTo(own.sum, sum);
      addTo(own.products, outputs[layerOutputs.productsReadBy(matrix)]!);
      own.rows += window.to - window.from;
    }
    for (const output of Object.values(outputs)) freeOutput(output);
  }

  #noMoments(): LayerMoments {
    const [layer] = this.#parts.weights.layout.layers;
    const zeros = (matrix: ReadMatrix): [ReadMatrix, Moments] => {
      const { columns } = layer![matrix];
      const products = new Float32Array(columns * columns);
      return [matrix, { rows: 0, sum: new Float64Array(columns), products }];
    };
    return Object.fromEntries(readMatrices.map(zeros)) as Record<ReadMatrix, Moments>;
  }
}

export function buildProductGraph(): Uint8Array {
  const builder = new GraphBuilder();
  builder.input("x", "float32", ["r", "n"]);
  builder.input("y", "float32", ["n", "n"]);
  builder.node("MatMul", ["x", "y"], { outputs: ["xy"] });
  builder.output("xy", "float32", ["r", "n"]);
  return builder.finish();
}
