// What a way to merge adapters has to say: which parameters it takes, and what becomes of one matrix.

import type { Dense } from "./matrix/dense-products.ts";
import type { MatrixModule, MatrixPlace } from "./matrix-place.ts";
import type { MergeParameter, MergeParameters } from "./merge-parameters.ts";

/** One matrix as several adapters change it. */
export type MatrixMerge = {
  readonly place: MatrixPlace;
  readonly parts: readonly MatrixPart[]; // those that change the matrix, none with weight zero
  readonly sum: readonly MatrixModule[]; // their exact weighted sum
  readonly randomStream: number; // 32 bits that differ from matrix to matrix
};

export type MatrixPart = { readonly weight: number; readonly modules: readonly MatrixModule[] };

export type MergedMatrix = {
  readonly modules: readonly MatrixModule[]; // none where nothing is left
  readonly target: Dense | null; // what they stand for; null = the exact weighted sum
};

export type MergeMethod<Parameter extends MergeParameter = MergeParameter> = {
  readonly parameters: readonly Parameter[];
  readonly merge: (matrix: MatrixMerge, parameters: MergeParameters<Parameter>) => MergedMatrix;
};
