// Unstructured sparse changes of the frozen matrices: laid over the widened weights while one unit runs, and their
// gradients, read off what the backward pass gives of a window. Knows no layers' graphs and no jobs.

import type { AdapterTargets, Projection, ProjectionShape } from "../adapter.ts";
import { adapterSites } from "../adapter-sites.ts";
import { type MatrixName, matrixNames } from "./layer-names.ts";
import type { LayerValues } from "./prepared-weights.ts";

export type WeightPlace = { readonly layer: number; readonly projection: Projection };

/** W[index] += value, places as in a decoded adapter's sparse module. */
export type SparseDelta = WeightPlace & {
  readonly indices: Uint32Array; // row-major in W [out, in], no two alike
  readonly values: Float32Array;
};

/** Wanted of W at some places; what the loss' gradient is there is added to `gradient`. */
export type SparseGradient = WeightPlace & {
  readonly indices: Uint32Array;
  readonly gradient: Float32Array;
};

/** What a window adds to W's gradient: yᵀ x, kept as its two factors. */
export type GradientFactors = {
  readonly x: Float32Array; // [in, tokens]
  readonly y: Float32Array; // [out, tokens], the gradient by what W gives
  readonly tokens: number;
};

/** Where each projection's weight lies among a layer's prepared matrices. */
export class WeightMap {
  readonly #places = new Map<Projection, { readonly matrix: MatrixName; readonly firstRow: number }>();
  readonly #shapes: Readonly<Record<Projection, ProjectionShape>>;

  constructor(targets: AdapterTargets) {
    this.#shapes = targets.shapes;
    for (const { name, parts } of adapterSites(targets)) {
      const matrix = matrixNames.find((one) => one === name);
      if (matrix === undefined) continue; // the output head
      for (const { projection, column } of parts) this.#places.set(projection, { matrix, firstRow: column });
    }
  }

  shapeOf(projection: Projection): ProjectionShape {
    return this.#shapes[projection];
  }

  /** Adds the changes to the layer's weights. @returns what puts the former values back, bit for bit */
  add(layer: LayerValues, deltas: readonly SparseDelta[]): () => void {
    const former = deltas.map(({ projection, indices, values }) => {
      const weights = this.#part(layer, projection);
      const before = new Float32Array(indices.length);
      for (let i = 0; i < indices.length; i++) {
        before[i] = weights[indices[i]!]!;
        weights[indices[i]!]! += values[i]!;
      }
      return { weights, indices, before };
    });
    return () => {
      for (const { weights, indices, before } of former) {
        for (let i = 0; i < indices.length; i++) weights[indices[i]!] = before[i]!;
      }
    };
  }

  /** A projection's factors among the outputs of a backward run, by the matrix that it is a part of. */
  factors(projection: Projection, of: (matrix: MatrixName) => GradientFactors): GradientFactors {
    const { matrix, firstRow } = this.#places.get(projection)!;
    const { x, y, tokens } = of(matrix);
    const rows = y.subarray(firstRow * tokens, (firstRow + this.#shapes[projection].out) * tokens);
    return { x, y: rows, tokens };
  }

  /** Of a projection among the layer's matrices; it has all of their columns. */
  placeOf(projection: Projection): { readonly matrix: MatrixName; readonly firstRow: number } {
    return this.#places.get(projection)!;
  }

  #part(layer: LayerValues, projection: Projection): Float32Array {
    const { matrix, firstRow } = this.#places.get(projection)!;
    const { in: columns, out } = this.#shapes[projection];
    return layer.get(matrix)!.subarray(firstRow * columns, (firstRow + out) * columns);
  }
}

/** The gradient at the wanted places only: a product of two rows of the factors each. */
export function addSparseGradient(
  { indices, gradient }: Pick<SparseGradient, "indices" | "gradient">,
  { x, y, tokens }: GradientFactors,
): void {
  const columns = x.length / tokens;
  for (let i = 0; i < indices.length; i++) {
    const row = Math.floor(indices[i]! / columns);
    const xAt = (indices[i]! - row * columns) * tokens;
    const yAt = row * tokens;
    let sum = 0;
    for (let token = 0; token < tokens; token++) sum += x[xAt + token]! * y[yAt + token]!;
    gradient[i]! += sum;
  }
}
