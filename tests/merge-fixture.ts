// For tests of merges: pairs of adapters, and what they do to each matrix by the definitions of the kinds.

import assert from "node:assert/strict";
import {
  isAt,
  isMatrixModule,
  type MatrixPlace,
  matrixPlaces,
} from "../adapters-store/combine/matrix-place.ts";
import { type MergeOptions, type MergePart, mergeAdapters } from "../adapters-store/combine/merge.ts";
import { fixtureTargets as targets } from "../adapters-store/peft-fixture.ts";
import type { AdapterModule, DecodedAdapter } from "../kernels/adapter.ts";
import { randomAdapter, randomAdapterCount } from "./golden/random-adapters.ts";

export const places = matrixPlaces(targets);
export const fullRank = 20; // more than any matrix of the fixture has

/** What the modules at a place do, from the definitions of the kinds. */
export function change({ modules }: DecodedAdapter, place: MatrixPlace): Float64Array {
  const { rows, columns } = place;
  const dense = new Float64Array(rows * columns);
  for (const module of modules.filter((each) => isAt(each, place))) {
    for (let at = 0; at < dense.length; at++)
      dense[at]! += entry(module, Math.floor(at / columns), at % columns);
    if (module.kind === "sparse")
      for (const [i, at] of module.indices.entries()) dense[at]! += module.values[i]!;
  }
  return dense;

  function entry(module: AdapterModule, row: number, column: number): number {
    let sum = 0;
    if (module.kind === "channels") {
      const at = module.channels.indexOf(column);
      return at < 0 ? 0 : module.b[at * rows + row]!;
    }
    if (!("rank" in module)) return 0;
    for (let r = 0; r < module.rank; r++) {
      sum +=
        module.kind === "embedding"
          ? module.a[row * module.rank + r]! * module.b[r * columns + column]!
          : module.b[r * rows + row]! * module.a[r * columns + column]!;
    }
    return sum;
  }
}

export const adapters = Array.from({ length: randomAdapterCount }, (_, index) =>
  randomAdapter(targets, index),
);
export const ofMatrices = adapters.filter(({ modules }) => modules.every(isMatrixModule));
export const mixed = adapters[16]!; // low-rank and sparse

export function part(
  adapter: DecodedAdapter,
  weight: number,
  layerWeights = [weight, weight, weight],
): MergePart {
  return { adapter, weight, layerWeights, version: `${adapters.indexOf(adapter)}` };
}

export const weightAt = ({ weight, layerWeights }: MergePart, place: MatrixPlace) =>
  place.kind === "projection" ? layerWeights[place.layer]! : weight;

/** The weighted changes of all parts. */
export function weighted(parts: readonly MergePart[], place: MatrixPlace): Float64Array[] {
  return parts.map((each) => change(each.adapter, place).map((value) => value * weightAt(each, place)));
}

export function addAll(matrices: readonly Float64Array[]): Float64Array {
  return matrices[0]!.map((_, at) => matrices.reduce((sum, matrix) => sum + matrix[at]!, 0));
}

export function distance(one: Float64Array, other: Float64Array): number {
  return Math.hypot(...one.map((value, at) => value - other[at]!));
}

export function assertChanges(
  adapter: DecodedAdapter,
  wanted: (place: MatrixPlace) => Float64Array,
  tolerance = 1e-5,
) {
  for (const place of places) {
    const expected = wanted(place);
    const error = distance(change(adapter, place), expected);
    assert.ok(error <= tolerance * (1 + Math.hypot(...expected)), `${JSON.stringify(place)}: ${error}`);
  }
}

export const merge = (parts: readonly MergePart[], options: MergeOptions) =>
  mergeAdapters({ parts, targets, options });

/** Pairs of adapters of all kinds, with weights that differ from layer to layer. */
export const pairs = ofMatrices.map((first, index) => [
  part(first, -1.5, [-1.5, 0.5, 0.75]),
  part(ofMatrices[(index * 5 + 3) % ofMatrices.length]!, 0.25),
]);
