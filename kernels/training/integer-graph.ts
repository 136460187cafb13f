// A graph that holds its frozen weights: products with matrices are of 8-bit integers both ways, those with an adapter's
// of float32 (SwitchBack, arXiv 2304.13013). Where weights come from, and how they are coded, it does not know.

import { type ElementType, GraphBuilder } from "../onnx/graph-builder.ts";
import { DifferentiableGraph, type FrozenWeight, type Value } from "./differentiable-graph.ts";
import type { IntegerMatrix, ProductGraph } from "./integer-coding.ts";
import { type ModelWeights, weightsFileName } from "./model-weights.ts";

/** By the names of the graph's frozen weights. */
export type GraphWeights = {
  readonly vector: (name: string) => Float32Array;
  readonly matrix: (name: string) => IntegerMatrix;
  readonly transposed: (name: string) => IntegerMatrix;
};

export class IntegerGraph extends DifferentiableGraph implements ProductGraph {
  readonly #weights: GraphWeights;
  readonly #file: ModelWeights;

  /** @param file takes the weights that the graph needs */
  constructor(weights: GraphWeights, file: ModelWeights) {
    super(new GraphBuilder(weightsFileName));
    this.#weights = weights;
    this.#file = file;
  }

  constantTensor(
    name: string,
    type: ElementType,
    shape: readonly number[],
    values: Float32Array | Uint8Array | Int8Array,
  ): string {
    return this.builder.external(name, type, shape, this.#file.add(values));
  }

  /** Of a vector: matrices enter in products. */
  override frozen({ name, shape }: FrozenWeight): string {
    return this.constantTensor(name, "float32", shape, this.#weights.vector(name));
  }

  override linear(x: Value, { name }: FrozenWeight, bias: string | null): Value {
    return this.differentiable(
      () => this.#weights.matrix(name).product(this, x.name, name, bias),
      (gradient) => {
        const transposed = this.#weights.transposed(name);
        x.addGradient(transposed.product(this, gradient, `${name}.transposed`, null));
      },
    );
  }
}
