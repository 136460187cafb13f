// A layer's frozen weights as graphs of integers hold them. What an integer base serves with is what goes forward, where
// the coding has it; all else is coded from the widened values.

import type { PreparedLayer, PreparedMatrix, PreparedVector } from "../prepare/layout.ts";
import { freeOutput } from "../session.ts";
import type { IntegerCoding, IntegerMatrix, MatrixShape } from "./integer-coding.ts";
import type { GraphWeights } from "./integer-graph.ts";
import { type LayerWeight, layerInputs } from "./layer-names.ts";
import type { PreparedWeights } from "./prepared-weights.ts";

export class IntegerWeights implements GraphWeights {
  readonly #prepared: PreparedWeights;
  readonly #coding: IntegerCoding;
  readonly #parts: ReadonlyMap<string, PreparedMatrix | PreparedVector | null>;

  constructor(prepared: PreparedWeights, layer: PreparedLayer, coding: IntegerCoding) {
    this.#prepared = prepared;
    this.#coding = coding;
    const parts = Object.entries(layer);
    this.#parts = new Map(parts.map(([name, part]) => [layerInputs.weight(name as LayerWeight), part]));
  }

  vector(name: string): Float32Array {
    return this.#prepared.vector(this.#parts.get(name) as PreparedVector);
  }

  matrix(name: string): IntegerMatrix {
    const matrix = this.#matrix(name);
    const { served, rows } = this.#coding;
    const stored = served === null ? null : this.#prepared.quantizedRows(matrix, 0, matrix.rows);
    return served === null || stored === null ? this.#coded(matrix, rows) : served(stored, matrix);
  }

  transposed(name: string): IntegerMatrix {
    return this.#coded(this.#matrix(name), this.#coding.columns);
  }

  #matrix(name: string): PreparedMatrix {
    return this.#parts.get(name) as PreparedMatrix;
  }

  #coded(
    matrix: PreparedMatrix,
    code: (weights: Float32Array, shape: MatrixShape) => IntegerMatrix,
  ): IntegerMatrix {
    const values = new Float32Array(matrix.rows * matrix.columns);
    this.#prepared.readRows(matrix, 0, values);
    const coded = code(values, matrix);
    freeOutput(values);
    return coded;
  }
}
