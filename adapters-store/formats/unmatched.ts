// The refusal of tensors that belong to no module of the base: every tensor of an adapter must end up in a module,
// none is dropped.

import { type AdapterTargets, projections } from "../../kernels/adapter.ts";
import { AdapterError } from "../../kernels/errors.ts";

/** @throws AdapterError `no_modules_matched` or `module_not_supported`, naming up to ten tensors */
export function refuseUnmatched(
  fileName: string,
  unmatched: readonly string[],
  found: { readonly matchedCount: number; readonly targets: AdapterTargets },
): void {
  if (found.matchedCount > 0 && unmatched.length === 0) return;
  const listed = `${unmatched.slice(0, 10).join(", ").slice(0, 1000)}${unmatched.length > 10 ? ", …" : ""}`;
  const served = `the base has layers 0 to ${found.targets.layers - 1} with the projections ${projections.join(", ")}, embeddings and a head`;
  if (found.matchedCount === 0) {
    throw new AdapterError(
      "no_modules_matched",
      `${fileName} holds ${unmatched.length === 0 ? "no tensors" : `[${listed}]`}, but ${served}; train the adapter on this base`,
    );
  }
  throw new AdapterError(
    "module_not_supported",
    `${fileName}: ${unmatched.length} tensors match no module that can be changed in this way: [${listed}]; ${served}: train the adapter on those alone`,
  );
}
