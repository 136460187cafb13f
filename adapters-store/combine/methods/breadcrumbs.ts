// Model Breadcrumbs (arXiv 2312.06795): of each change's entries, drop the largest (outliers) and the smallest
// (negligible ones), and add up the rest. The paper's thresholds are beta = 1 - density - outliers, gamma = 1 - outliers.

import { largestMagnitudes } from "../../codecs/largest-magnitudes.ts";
import { weightedSum } from "../combine-changes.ts";
import { denseMethod } from "../dense-method.ts";
import { invalidParameter } from "../merge-parameters.ts";

export const breadcrumbs = denseMethod({
  parameters: ["density", "outliers"],
  sparsify: keepMiddle,
  combine: weightedSum,
});

function keepMiddle(
  values: Float32Array,
  { density, outliers }: { readonly density: number; readonly outliers: number },
): void {
  if (density + outliers > 1) throw invalidParameter("density and outliers must be at most 1 together");
  const dropped = Math.floor(outliers * values.length);
  const upTo = largestMagnitudes(values, dropped + Math.floor(density * values.length));
  const kept = new Float32Array(values.length);
  for (let i = 0; i < upTo.length; i++) kept[upTo[i]!] = values[upTo[i]!]!;
  for (const place of largestMagnitudes(values, dropped)) kept[place] = 0;
  values.set(kept);
}
