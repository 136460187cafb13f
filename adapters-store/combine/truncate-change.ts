// Brings a change of a matrix to a rank: the nearest one of that rank, or nearly.

import { significantRank, truncated } from "./matrix/factored-svd.ts";
import type { SingularValues } from "./matrix/jacobi-svd.ts";
import { type FactoredModule, factoredModule, type MatrixPlace } from "./matrix-place.ts";

/** Of a matrix's norm: what float32 factors cannot tell from zero. */
const rounding = 1e-7;

/** No module where nothing is left. */
export function truncatedModules(place: MatrixPlace, svd: SingularValues, rank: number): FactoredModule[] {
  const kept = Math.min(rank, significantRank(svd.values, rounding));
  return kept === 0 ? [] : [factoredModule(place, truncated(svd, kept))];
}
