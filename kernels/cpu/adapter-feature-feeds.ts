// Inputs of what a graph offers besides low-rank adapters: scales and shifts of the changed rows, sparse segments.

import { adapterInputs } from "../adapter-graph.ts";
import type { AdapterSite, GraphFeatures } from "../adapter-sites.ts";
import { type Feeds, floatTensor, indexTensor, int32Tensor } from "../session.ts";
import type { SiteAdapter } from "../site-adapter.ts";
import { segmentWidth } from "../sparse-segments.ts";

export type ChangedRows = {
  readonly site: AdapterSite;
  readonly adapters: readonly SiteAdapter[]; // of the changed rows; one, or none, for a prefill chunk
  readonly rows: readonly number[] | null; // the changed ones of a decode step; null = a prefill chunk
  readonly tokens: number; // of the run
};

export function featureFeeds(changed: ChangedRows, features: GraphFeatures): Feeds {
  const feeds: Feeds = {};
  const hasSparse = features.has("sparse") && changed.site.name !== "head";
  for (let layer = 0; layer < changed.site.layers; layer++) {
    if (features.has("scale")) Object.assign(feeds, scaleFeeds(changed, layer));
    if (hasSparse) Object.assign(feeds, sparseFeeds(changed, layer));
  }
  if (hasSparse) Object.assign(feeds, sparseShapeFeeds(changed));
  return feeds;
}

const one = new Float32Array([1]);
const zero = new Float32Array([0]);

/** One number for all rows where none has a scale. */
function scaleFeeds({ site, adapters }: ChangedRows, layer: number): Feeds {
  const scales = adapters.map((adapter) => adapter.scale(layer, site.name));
  const [scale, shift] = [adapterInputs.scale(layer, site.name), adapterInputs.shift(layer, site.name)];
  if (scales.every((each) => each === null)) {
    return { [scale]: floatTensor(one, [1, 1, 1, 1]), [shift]: floatTensor(zero, [1, 1, 1, 1]) };
  }
  const factors = new Float32Array(scales.length * site.out).fill(1);
  const offsets = new Float32Array(scales.length * site.out);
  for (const [row, each] of scales.entries()) {
    if (each === null) continue;
    factors.set(each.scale, row * site.out);
    offsets.set(each.shift, row * site.out);
  }
  const dims = [1, scales.length, 1, site.out];
  return { [scale]: floatTensor(factors, dims), [shift]: floatTensor(offsets, dims) };
}

/** The segments of all changed rows, pointing at each row's own inputs and outputs. */
function sparseFeeds({ site, adapters, rows }: ChangedRows, layer: number): Feeds {
  const sparse = adapters.map((adapter) => adapter.sparse(layer, site.name));
  const segments = sparse.reduce((sum, each) => sum + (each?.outputs.length ?? 0), 0);
  const columns = new Int32Array(segments * segmentWidth);
  const values = new Float32Array(segments * segmentWidth);
  const outputs = new Int32Array(segments);
  let first = 0;
  for (const [place, each] of sparse.entries()) {
    if (each === null) continue;
    const inputOffset = (rows?.[place] ?? 0) * site.in;
    const outputOffset = place * site.out;
    const at = first * segmentWidth;
    for (const [i, column] of each.columns.entries()) columns[at + i] = inputOffset + column;
    for (const [i, output] of each.outputs.entries()) outputs[first + i] = outputOffset + output;
    values.set(each.values, at);
    first += each.outputs.length;
  }
  return {
    [adapterInputs.sparseColumns(layer, site.name)]: int32Tensor(columns, [segments, segmentWidth]),
    [adapterInputs.sparseValues(layer, site.name)]: floatTensor(values, [segments, 1, segmentWidth]),
    [adapterInputs.sparseOutputs(layer, site.name)]: int32Tensor(outputs, [segments, 1]),
  };
}

function sparseShapeFeeds({ site, adapters, rows, tokens }: ChangedRows): Feeds {
  const isDecode = rows !== null;
  const [groups, perGroup] = isDecode ? [tokens, 1] : [1, tokens];
  const shapes = {
    read: [groups, perGroup, site.in],
    columns: [groups * site.in, perGroup],
    tokens: [1, perGroup],
    sums: [adapters.length * site.out, perGroup],
    written: [-1, site.out, perGroup],
    added: isDecode || adapters.length === 0 ? [1, -1, 1, site.out] : [perGroup, 1, 1, site.out],
  };
  return Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [
      adapterInputs.sparseShape(site.name, name as keyof typeof shapes),
      indexTensor(shape, [shape.length]),
    ]),
  );
}
