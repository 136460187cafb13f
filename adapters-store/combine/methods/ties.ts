// TIES (arXiv 2306.01708): trim each change to its largest entries, elect signs, average those that agree.

import { largestMagnitudes } from "../../codecs/largest-magnitudes.ts";
import { disjointMean } from "../combine-changes.ts";
import { denseMethod } from "../dense-method.ts";

export const ties = denseMethod({
  parameters: ["density"],
  sparsify: keepLargest,
  combine: disjointMean,
});

function keepLargest(values: Float32Array, { density }: { readonly density: number }): void {
  if (density === 1) return;
  const kept = largestMagnitudes(values, Math.floor(density * values.length));
  const trimmed = new Float32Array(values.length);
  for (let i = 0; i < kept.length; i++) trimmed[kept[i]!] = values[kept[i]!]!;
  values.set(trimmed);
}
