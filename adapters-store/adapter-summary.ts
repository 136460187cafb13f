// What is told of an adapter after an upload and in listings: which modules it changes, at which ranks.

import {
  type AdapterKind,
  type AdapterTargets,
  type DecodedAdapter,
  modulesOf,
  type Projection,
  projections,
} from "../kernels/adapter.ts";
import { servedBytes } from "../kernels/site-adapter.ts";

export type AdapterSummary = {
  readonly kinds: readonly AdapterKind[];
  readonly ranks: { readonly min: number; readonly max: number } | null; // of its low-rank modules
  readonly modulesMatched: { readonly count: number; readonly names: readonly string[] }; // q: layers 0-3, 5
  readonly modulesUnmatched: readonly string[]; // of the base, left alone by the adapter
  readonly sizeBytes: number; // of its files
  readonly decodedBytes: number; // of its modules in the engine
};

export function summarize(
  adapter: DecodedAdapter,
  against: { readonly targets: AdapterTargets; readonly sizeBytes: number },
): AdapterSummary {
  const ranks = modulesOf(adapter, "low-rank").map(({ rank }) => rank);
  const changed = new Set(
    adapter.modules.flatMap((module) =>
      "projection" in module ? [`${module.layer}.${module.projection}`] : [],
    ),
  );
  const whole = adapter.modules.flatMap((module) => ("projection" in module ? [] : [module.kind]));
  const layersOf = (projection: Projection, isChanged: boolean) =>
    Array.from({ length: against.targets.layers }, (_, layer) => layer).filter(
      (layer) => changed.has(`${layer}.${projection}`) === isChanged,
    );
  const names = (isChanged: boolean) =>
    projections.flatMap((projection) => {
      const layers = layersOf(projection, isChanged);
      return layers.length === 0 ? [] : [`${projection}: layers ${formatRanges(layers)}`];
    });
  return {
    kinds: [...new Set(adapter.modules.map(({ kind }) => kind))].sort(),
    ranks: ranks.length === 0 ? null : { min: Math.min(...ranks), max: Math.max(...ranks) },
    modulesMatched: { count: changed.size + whole.length, names: [...names(true), ...new Set(whole)] },
    modulesUnmatched: names(false),
    sizeBytes: against.sizeBytes,
    decodedBytes: servedBytes(adapter, against.targets),
  };
}

/** Ascending whole numbers as `0-3, 5`. */
function formatRanges(numbers: readonly number[]): string {
  const ranges: [first: number, last: number][] = [];
  for (const number of numbers) {
    const range = ranges.at(-1);
    if (range !== undefined && range[1] === number - 1) range[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(", ");
}
