// A graph that holds its frozen weights: products with matrices are of 8-bit integers both ways, those with an adapter's
// of float32 (SwitchBack, arXiv 2304.13013). Blocks of a matrix have a scale each, going forward of a row, going back of
// a column; what is multiplied is rounded in the same blocks while it runs. Where weights come from, it does not know.

import { GraphBuilder } from "../onnx/graph-builder.ts";
import { blockSize, blocksPerRow } from "../prepare/quantize-blocks.ts";
import type { QuantizedRows } from "./dequantize-rows.ts";
import { DifferentiableGraph, type FrozenWeight, type Value } from "./differentiable-graph.ts";
import { type ModelWeights, weightsFileName } from "./model-weights.ts";

export type IntegerMatrix = QuantizedRows & { readonly rows: number; readonly columns: number };

/** By the names of the graph's frozen weights. */
export type GraphWeights = {
  readonly vector: (name: string) => Float32Array;
  readonly matrix: (name: string) => IntegerMatrix;
  readonly transposed: (name: string) => IntegerMatrix;
};

/** MatMulNBits rounds what it multiplies, too. */
const integerAccuracyLevel = 4;

export class IntegerGraph extends DifferentiableGraph {
  readonly #weights: GraphWeights;
  readonly #file: ModelWeights;

  /** @param file takes the weights that the graph needs */
  constructor(weights: GraphWeights, file: ModelWeights) {
    super(new GraphBuilder(weightsFileName));
    this.#weights = weights;
    this.#file = file;
  }

  /** Of a vector: matrices enter in products. */
  override frozen({ name, shape }: FrozenWeight): string {
    return this.builder.external(name, "float32", shape, this.#file.add(this.#weights.vector(name)));
  }

  override linear(x: Value, { name }: FrozenWeight, bias: string | null): Value {
    return this.differentiable(
      () => this.#product([x.name, name], this.#weights.matrix(name), bias),
      (gradient) => {
        const product = this.#product([gradient, `${name}.transposed`], this.#weights.transposed(name), null);
        x.addGradient(product);
      },
    );
  }

  /** x Wᵀ + bias */
  #product(
    [x, name]: readonly [x: string, name: string],
    matrix: IntegerMatrix,
    bias: string | null,
  ): string {
    const { rows, columns, packed, scales, bits } = matrix;
    const blocks = blocksPerRow(columns);
    const shape = [rows, blocks, (blockSize * bits) / 8];
    const codes = this.builder.external(name, "uint8", shape, this.#file.add(packed));
    const scaleRange = this.#file.add(scales);
    const scale = this.builder.external(`${name}.scales`, "float32", [rows * blocks], scaleRange);
    const inputs = bias === null ? [x, codes, scale] : [x, codes, scale, "", "", bias];
    const attributes = {
      K: columns,
      N: rows,
      bits,
      block_size: blockSize,
      accuracy_level: integerAccuracyLevel,
    };
    return this.builder.contrib("MatMulNBits", inputs, { attributes })[0]!;
  }
}
