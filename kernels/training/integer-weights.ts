// A layer's frozen weights as graphs of integers hold them. What an integer base serves with is what goes forward; all
// else is coded from the widened values.

import type { PreparedLayer, PreparedMatrix, PreparedVector } from "../prepare/layout.ts";
import { freeOutput } from "../session.ts";
import { codeColumns, codeRows } from "./integer-blocks.ts";
import type { GraphWeights, IntegerMatrix } from "./integer-graph.ts";
import { type LayerWeight, layerInputs } from "./layer-names.ts";
import type { PreparedWeights } from "./prepared-weights.ts";

export class IntegerWeights implements GraphWeights {
  readonly #prepared: PreparedWeights;
  readonly #parts: ReadonlyMap<string, PreparedMatrix | PreparedVector | null>;

  constructor(prepared: PreparedWeights, layer: PreparedLayer) {
    this.#prepared = prepared;
    const parts = Object.entries(layer);
    this.#parts = new Map(parts.map(([name, part]) => [layerInputs.weight(name as LayerWeight), part]));
  }

  vector(name: string): Float32Array {
    return this.#prepared.vector(this.#parts.get(name) as PreparedVector);
  }

  matrix(name: string): IntegerMatrix {
    const matrix = this.#matrix(name);
    const { rows, columns } = matrix;
    const served = this.#prepared.quantizedRows(matrix, 0, rows);
    if (served === null) return this.#coded(matrix, codeRows);
    return { ...served, packed: served.packed.slice(), rows, columns };
  }

  transposed(name: string): IntegerMatrix {
    return this.#coded(this.#matrix(name), codeColumns);
  }

  #matrix(name: string): PreparedMatrix {
    return this.#parts.get(name) as PreparedMatrix;
  }

  #coded(matrix: PreparedMatrix, code: typeof codeRows): IntegerMatrix {
    const values = new Float32Array(matrix.rows * matrix.columns);
    this.#prepared.readRows(matrix, 0, values);
    const coded = code(values, matrix);
    freeOutput(values);
    return coded;
  }
}
