// The weighted sum (task arithmetic, arXiv 2212.04089), without loss at the smallest rank that holds it: adapters that
// share directions, like two checkpoints of one run with a frozen A, need fewer ranks than they have together. PEFT's
// `linear` adds A and B each on their own, which adds products of one adapter's A with another's B.

import { factoredSvd } from "../matrix/factored-svd.ts";
import { factorsOf, isFactored, type MatrixModule } from "../matrix-place.ts";
import type { MergeMethod } from "../merge-method.ts";
import { truncatedModules } from "../truncate-change.ts";

export const linear: MergeMethod<never> = {
  parameters: [],
  merge: ({ place, sum }) => ({
    target: null,
    modules: sum.flatMap((module): MatrixModule[] => {
      if (!isFactored(module)) return [module];
      const smaller = truncatedModules(place, factoredSvd(factorsOf(module)), module.rank);
      return smaller[0]?.rank === module.rank ? [module] : smaller;
    }),
  }),
};
