// The weighted sum at a given rank: the nearest matrix of that rank. Low-rank sums never become dense.

import { denseSvd } from "../matrix/dense-svd.ts";
import { factoredSvd } from "../matrix/factored-svd.ts";
import { denseChange, factorsOf, isFactored } from "../matrix-place.ts";
import type { MergeMethod } from "../merge-method.ts";
import { truncatedModules } from "../truncate-change.ts";

export const svd: MergeMethod<"rank"> = {
  parameters: ["rank"],
  merge: ({ place, sum }, { rank }) => {
    const [only, ...others] = sum;
    if (only === undefined) return { modules: [], target: null };
    const decomposed =
      isFactored(only) && others.length === 0
        ? factoredSvd(factorsOf(only))
        : denseSvd(denseChange(sum, place), rank);
    return { modules: truncatedModules(place, decomposed, rank), target: null };
  },
};
