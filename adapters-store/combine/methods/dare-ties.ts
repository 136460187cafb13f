// DARE on each adapter's change instead of TIES' trimming, then its election: PEFT's `dare_ties_svd`.

import { disjointMean } from "../combine-changes.ts";
import { denseMethod } from "../dense-method.ts";
import { dropEntries } from "../drop-entries.ts";

export const dareTies = denseMethod({
  parameters: ["density", "seed"],
  sparsify: dropEntries,
  combine: disjointMean,
});
