// The operations of training that the WebGPU provider does not have, or computes otherwise, by others that it has.

import { DifferentiableGraph, type ProductOptions, type Value } from "../training/differentiable-graph.ts";

export class WebgpuTrainingGraph extends DifferentiableGraph {
  /** The provider has no product by a transposed matrix but this one. */
  override matmul(x: string, y: string, { alpha, ...transposed }: ProductOptions = {}): string {
    const scaled = alpha === undefined ? {} : { alpha: { float: alpha } };
    return this.node("Gemm", [x, y], { attributes: { ...transposed, ...scaled } });
  }

  override batchedMatmul(x: string, y: string, { transA, transB, alpha }: ProductOptions = {}): string {
    const turned = (z: string, isTurned: 1 | undefined) =>
      isTurned === undefined ? z : this.transpose(z, [0, 1, 3, 2]);
    const product = this.node("MatMul", [turned(x, transA), turned(y, transB)]);
    return alpha === undefined ? product : this.node("Mul", [product, this.constant(alpha)]);
  }

  /** The provider's norm gives another second result: for it, the root is written out. */
  protected override normedPieces(
    x: Value,
    weight: string,
    epsilon: number,
  ): Record<"normed" | "inverse", Value> {
    const normed = this.value(() =>
      this.node("SimplifiedLayerNormalization", [x.name, weight], {
        attributes: { axis: -1, epsilon: { float: epsilon } },
      }),
    );
    const inverse = this.value(() => {
      const squares = this.node("Mul", [x.name, x.name]);
      const mean = this.node("ReduceMean", [squares, this.builder.integers([-1])]);
      return this.node("Reciprocal", [this.node("Sqrt", [this.node("Add", [mean, this.constant(epsilon)])])]);
    });
    return { normed, inverse };
  }
}
