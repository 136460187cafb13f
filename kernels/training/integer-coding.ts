// What a way of coding a matrix as integers gives: the two codes that products in training need, each able to write its
// own product into a graph. Which of the ways runs fastest is the processor's matter.

import type { ElementType, GraphBuilder } from "../onnx/graph-builder.ts";
import type { QuantizedRows } from "./dequantize-rows.ts";

export type MatrixShape = { readonly rows: number; readonly columns: number };

/** Where a product is written. */
export type ProductGraph = {
  readonly builder: GraphBuilder;
  /** @param values are no longer the caller's */
  constantTensor(
    name: string,
    type: ElementType,
    shape: readonly number[],
    values: Float32Array | Uint8Array | Int8Array,
  ): string;
};

/** A coded matrix of [outputs, inputs]. */
export interface IntegerMatrix {
  /**
   * Once: the codes are the graph's afterwards.
   * @param x [n, inputs]
   * @param name of the matrix in the graph
   * @param bias [outputs], or null
   * @returns [n, outputs]
   */
  product(graph: ProductGraph, x: string, name: string, bias: string | null): string;
}

export type IntegerCoding = {
  /** @param weights [rows, columns], to be multiplied with as they are: x Wᵀ */
  readonly rows: (weights: Float32Array, shape: MatrixShape) => IntegerMatrix;
  /** The same of the transposed matrix: x W. */
  readonly columns: (weights: Float32Array, shape: MatrixShape) => IntegerMatrix;
  /** Of what a quantized base serves with; null where codes of this kind are not those. */
  readonly served: ((stored: QuantizedRows, shape: MatrixShape) => IntegerMatrix) | null;
};

export const largestLevel = 127;

/** What values are multiplied by to be levels; zero where all values are. */
export function inverseScale(largest: number): number {
  return largest === 0 ? 0 : largestLevel / largest;
}

/**
 * Rounding makes a number of what is none, so each product adds this to what it gives.
 * @param x [n, width]
 * @returns [n, 1], zero, or NaN where the row of x has a value that is not finite
 */
export function nanOfRows(builder: GraphBuilder, x: string): string {
  const [sums] = builder.node("ReduceSum", [x, builder.integers([-1])]);
  return builder.node("Mul", [sums!, builder.float(0)])[0]!;
}
