// 8-bit codes of a matrix with one scale for each of its outputs, and the product with them: each row that is multiplied
// is rounded by its own largest value while it runs (LLM.int8(), arXiv 2208.07339, section 2.1). The runtime has the
// processor's tile instructions (AMX) for such products alone, which are then 4 times those of blocks.

import type { GraphBuilder } from "../onnx/graph-builder.ts";
import {
  type IntegerCoding,
  type IntegerMatrix,
  inverseScale,
  largestLevel,
  type MatrixShape,
  nanOfRows,
  type ProductGraph,
} from "./integer-coding.ts";

/** Bytes without a sign times bytes with one: the products that there are instructions for. */
const zeroPoint = 128;
/** In place of the largest value of a row that is all zeros. */
const smallestScale = 1e-30;
/** Rows that are turned together, so that what is read and what is written stays in the cache. */
const tileRows = 64;

export const rowCoding: IntegerCoding = { rows: codeRows, columns: codeColumns, served: null };

export class RowMatrix implements IntegerMatrix {
  readonly codes: Int8Array; // [inputs, outputs]
  readonly scales: Float32Array; // [outputs]

  constructor(codes: Int8Array, scales: Float32Array) {
    this.codes = codes;
    this.scales = scales;
  }

  product(graph: ProductGraph, x: string, name: string, bias: string | null): string {
    const { builder } = graph;
    const outputs = this.scales.length;
    const codes = graph.constantTensor(name, "int8", [this.codes.length / outputs, outputs], this.codes);
    const scales = graph.constantTensor(`${name}.scales`, "float32", [outputs], this.scales);
    const one = builder.float(1);
    const zero = builder.byte(zeroPoint);
    const { rounded, scale } = roundRows(builder, x);
    const inputs = [rounded, codes, one, scales, zero];
    const [levels] = builder.contrib("MatMulIntegerToFloat", inputs);
    const [product] = builder.node("Mul", [levels!, scale]);
    return bias === null ? product! : builder.node("Add", [product!, bias])[0]!;
  }
}

/** Nodes that two products of the same x share: the runtime runs equal ones once. */
function roundRows(builder: GraphBuilder, x: string): { readonly rounded: string; readonly scale: string } {
  const node = (operator: string, ...inputs: string[]) => builder.node(operator, inputs)[0]!;
  const largest = node("ReduceMax", node("Abs", x), builder.integers([-1])); // [n, 1]
  const scale = node(
    "Max",
    node("Mul", largest, builder.float(1 / largestLevel)),
    builder.float(smallestScale),
  );
  const rounded = node("QuantizeLinear", node("Div", x, scale), builder.float(1), builder.byte(zeroPoint));
  return { rounded, scale: node("Add", scale, nanOfRows(builder, x)) };
}

function codeRows(weights: Float32Array, { rows, columns }: MatrixShape): RowMatrix {
  const codes = new Int8Array(rows * columns);
  const scales = new Float32Array(rows);
  const inverses = new Float64Array(rows); // of the smallest values they are beyond float32
  for (let row = 0; row < rows; row++) {
    let largest = 0;
    for (let at = row * columns; at < (row + 1) * columns; at++) {
      largest = Math.max(largest, Math.abs(weights[at]!));
    }
    scales[row] = largest / largestLevel;
    inverses[row] = inverseScale(largest);
  }
  for (let from = 0; from < rows; from += tileRows) {
    const to = Math.min(rows, from + tileRows);
    for (let column = 0; column < columns; column++) {
      for (let row = from; row < to; row++) {
        codes[column * rows + row] = Math.round(weights[row * columns + column]! * inverses[row]!);
      }
    }
  }
  return new RowMatrix(codes, scales);
}

function codeColumns(weights: Float32Array, { rows, columns }: MatrixShape): RowMatrix {
  const codes = new Int8Array(rows * columns);
  const largest = new Float32Array(columns);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at++) {
      largest[column] = Math.max(largest[column]!, Math.abs(weights[at]!));
    }
  }
  const inverses = Float64Array.from(largest, inverseScale);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at++) {
      codes[at] = Math.round(weights[at]! * inverses[column]!);
    }
  }
  return new RowMatrix(
    codes,
    largest.map((value) => value / largestLevel),
  );
}
