// LiNeS (arXiv 2410.17146): changes of shallow layers hold what a model forgets, those of deep ones what it learnt; so
// the scale of a change grows linearly with depth. The paper's alpha is `first`, its alpha + beta is `last`.

import type { MatrixPlace } from "./matrix-place.ts";
import { invalidParameter } from "./merge-parameters.ts";

export type DepthScaling = { readonly first: number; readonly last: number };

export const noDepthScaling: DepthScaling = { first: 1, last: 1 };

/** @throws AdapterError `merge_parameter_invalid` */
export function checkDepthScaling({ first, last }: DepthScaling): void {
  if ([first, last].every((each) => Number.isFinite(each) && each >= 0)) return;
  throw invalidParameter(`lines has first ${first} and last ${last}; both must be finite and at least 0`);
}

/** Embeddings stand before the first layer, the head behind the last one. */
export function depthScale({ first, last }: DepthScaling, place: MatrixPlace, layers: number): number {
  if (place.kind === "embedding") return first;
  if (place.kind === "head" || layers === 1) return last;
  return first + (last - first) * (place.layer / (layers - 1));
}
