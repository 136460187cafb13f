// The matrices of a base that adapters change, and what a module does to one of them: as factors, or entry by entry.

import {
  type AdapterModule,
  type AdapterTargets,
  type Projection,
  projections,
} from "../../kernels/adapter.ts";
import type { Dense } from "./matrix/dense-products.ts";
import { type Factors, transposed, vectorAt } from "./matrix/factors.ts";

/** A projection [out, in], or the embeddings or the head [vocab, hidden]. */
export type MatrixPlace = { readonly rows: number; readonly columns: number } & (
  | { readonly kind: "projection"; readonly layer: number; readonly projection: Projection }
  | { readonly kind: "embedding" }
  | { readonly kind: "head" }
);

/** Modules that change a matrix by a sum that their values are linear in. */
export type FactoredModule = Extract<AdapterModule, { rank: number }>;
export type MatrixModule = FactoredModule | Extract<AdapterModule, { kind: "channels" | "sparse" }>;

/** Every matrix that an adapter of this base may change, in one order. */
export function matrixPlaces({ layers, shapes, vocabSize, hiddenSize }: AdapterTargets): MatrixPlace[] {
  const ofLayers = Array.from({ length: layers }, (_, layer) =>
    projections.map((projection): MatrixPlace => {
      const { in: columns, out: rows } = shapes[projection];
      return { kind: "projection", layer, projection, rows, columns };
    }),
  );
  const whole = { rows: vocabSize, columns: hiddenSize };
  return [...ofLayers.flat(), { kind: "embedding", ...whole }, { kind: "head", ...whole }];
}

export function isAt(module: AdapterModule, place: MatrixPlace): boolean {
  if (place.kind !== "projection") return module.kind === place.kind;
  return "projection" in module && module.layer === place.layer && module.projection === place.projection;
}

export function isFactored(module: AdapterModule): module is FactoredModule {
  return "rank" in module;
}

export function isMatrixModule(module: AdapterModule): module is MatrixModule {
  return isFactored(module) || module.kind === "channels" || module.kind === "sparse";
}

export function factorsOf(module: FactoredModule): Factors {
  const { rank, a, b } = module;
  if (module.kind === "embedding") return { rank, left: transposed(a, a.length / rank), right: b };
  return { rank, left: b, right: a };
}

/** The low-rank module at a place that has these factors. */
export function factoredModule(place: MatrixPlace, { rank, left, right }: Factors): FactoredModule {
  if (place.kind === "embedding") {
    return { kind: "embedding", rank, a: transposed(left, rank), b: Float32Array.from(right) };
  }
  const [a, b] = [Float32Array.from(right), Float32Array.from(left)];
  if (place.kind === "head") return { kind: "head", rank, a, b };
  return { kind: "low-rank", layer: place.layer, projection: place.projection, rank, a, b };
}

/** What the modules at a place do together, entry by entry. */
export function denseChange(modules: readonly MatrixModule[], place: MatrixPlace): Dense {
  const { rows, columns } = place;
  const dense = { rows, columns, values: new Float32Array(rows * columns) };
  for (const module of modules) addModule(dense, module);
  return dense;
}

function addModule(dense: Dense, module: MatrixModule): void {
  const { rows, columns, values } = dense;
  if (isFactored(module)) {
    addFactors(dense, factorsOf(module), 1);
  } else if (module.kind === "channels") {
    for (const [at, channel] of module.channels.entries()) {
      for (let row = 0; row < rows; row++) values[row * columns + channel]! += module.b[at * rows + row]!;
    }
  } else {
    for (const [at, index] of module.indices.entries()) values[index]! += module.values[at]!;
  }
}

/** dense += weight leftᵀ right, summed up in float64. */
export function addFactors({ rows, columns, values }: Dense, factors: Factors, weight: number): void {
  const { rank, left, right } = factors;
  const rightRows = Array.from({ length: rank }, (_, i) => vectorAt(right, i, rank));
  const sums = new Float64Array(columns);
  for (let row = 0; row < rows; row++) {
    sums.fill(0);
    for (let i = 0; i < rank; i++) {
      const factor = weight * left[i * rows + row]!;
      const vector = rightRows[i]!;
      for (let k = 0; k < columns; k++) sums[k]! += factor * vector[k]!;
    }
    for (let k = 0; k < columns; k++) values[row * columns + k]! += sums[k]!;
  }
}
