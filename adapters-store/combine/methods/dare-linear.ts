// DARE on each adapter's change, then their weighted sum: PEFT's `dare_linear_svd`.

import { weightedSum } from "../combine-changes.ts";
import { denseMethod } from "../dense-method.ts";
import { dropEntries } from "../drop-entries.ts";

export const dareLinear = denseMethod({
  parameters: ["density", "seed"],
  sparsify: dropEntries,
  combine: weightedSum,
});
