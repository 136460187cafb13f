// An unstructured sparse change as the graph computes it: each output's entries cut into segments of one width, so
// that all segments are one batch of short dot products. An output has as many segments as its entries need.

import type { SparseModule } from "./adapter.ts";

/** Entries per segment. Wider wastes more on outputs with few entries, narrower costs more additions. */
export const segmentWidth = 16;

export type SparseSegments = {
  readonly columns: Int32Array; // [segments, segmentWidth], inputs that are read; 0 where there is no entry
  readonly values: Float32Array; // [segments, segmentWidth], 0 where there is no entry
  readonly outputs: Int32Array; // [segments]
};

export type PlacedSparse = { readonly module: SparseModule; readonly firstOutput: number };

/** The changes of one site, whose parts write to different outputs. */
export function cutIntoSegments(placed: readonly PlacedSparse[], inWidth: number): SparseSegments {
  const counts = placed.map(({ module }) => countSegments(module.indices, inWidth));
  const segments = counts.reduce((sum, count) => sum + count, 0);
  const columns = new Int32Array(segments * segmentWidth);
  const values = new Float32Array(segments * segmentWidth);
  const outputs = new Int32Array(segments);
  let segment = -1;
  for (const { module, firstOutput } of placed) {
    let output = -1;
    let used = segmentWidth;
    for (const [entry, index] of module.indices.entries()) {
      const row = Math.floor(index / inWidth);
      if (row !== output || used === segmentWidth) {
        outputs[++segment] = firstOutput + row;
        output = row;
        used = 0;
      }
      columns[segment * segmentWidth + used] = index % inWidth;
      values[segment * segmentWidth + used] = module.values[entry]!;
      used++;
    }
  }
  return { columns, values, outputs };
}

export function countSegments(indices: Uint32Array, inWidth: number): number {
  let segments = 0;
  for (let start = 0; start < indices.length; ) {
    const row = Math.floor(indices[start]! / inWidth);
    let end = start;
    while (end < indices.length && Math.floor(indices[end]! / inWidth) === row) end++;
    segments += Math.ceil((end - start) / segmentWidth);
    start = end;
  }
  return segments;
}
