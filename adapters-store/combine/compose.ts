// Several adapters as one whose change of the weights is the weighted sum of theirs. Nothing is approximated: ranks
// are stacked, sparse entries added up. So a request with several adapters runs like any other.

import {
  type AdapterKind,
  type AdapterModule,
  type DecodedAdapter,
  moduleArrays,
} from "../../kernels/adapter.ts";
import { AdapterError } from "../../kernels/errors.ts";

export type ComposePart = {
  readonly adapter: DecodedAdapter;
  readonly weightOf: (layer: number | null) => number; // null = embedding and head
};

/** @throws AdapterError `adapters_not_composable` naming the kind that has no weighted sum */
export function composeAdapters(parts: readonly ComposePart[]): DecodedAdapter {
  assertComposable(parts);
  const weighted = weightedModules(parts).map(({ module, weight }) => weigh(module, weight));
  const groups = Map.groupBy(weighted, placeOf);
  return { modules: [...groups.values()].map((modules) => modules.reduce(sum)) };
}

type WeightedModule = { readonly module: AdapterModule; readonly weight: number };

/** Those of all adapters, less those of weight zero. */
function weightedModules(parts: readonly ComposePart[]): WeightedModule[] {
  return parts.flatMap(({ adapter, weightOf }) =>
    adapter.modules.flatMap((module) => {
      const weight = weightOf("layer" in module ? module.layer : null);
      return weight === 0 ? [] : [{ module, weight }];
    }),
  );
}

/**
 * A scale multiplies what other modules add to its projection, of whatever adapter they are: it has a sum with
 * scales alone. Virtual tokens have none.
 * @throws AdapterError `adapters_not_composable`
 */
export function assertComposable(parts: readonly ComposePart[]): void {
  const isScaled = new Map<string, boolean>();
  for (const { module } of weightedModules(parts)) {
    if (module.kind === "soft-prompt" || module.kind === "prefix") throw notComposable(module.kind);
    if (!("projection" in module)) continue;
    const place = `${module.layer} ${module.projection}`;
    const isScale = module.kind === "scale";
    if ((isScaled.get(place) ?? isScale) !== isScale) {
      throw notComposable("scale beside other modules of one projection (as DoRA has)");
    }
    isScaled.set(place, isScale);
  }
}

/** Kind and place: modules that agree in it are added up. */
function placeOf(module: AdapterModule): string {
  const layer = "layer" in module ? module.layer : "";
  return `${module.kind} ${layer} ${"projection" in module ? module.projection : ""}`;
}

function weigh(module: AdapterModule, weight: number): AdapterModule {
  switch (module.kind) {
    case "low-rank":
    case "channels":
    case "head":
    case "embedding":
      return { ...module, b: scaled(module.b, weight) };
    case "sparse":
      return { ...module, values: scaled(module.values, weight) };
    case "scale": {
      const shift = module.shift === null ? null : scaled(module.shift, weight);
      return { ...module, scale: module.scale.map((value) => 1 + weight * (value - 1)), shift };
    }
    case "soft-prompt":
    case "prefix":
      throw notComposable(module.kind);
    default:
      return module satisfies never;
  }
}

function notComposable(kind: AdapterKind | string): AdapterError {
  return new AdapterError(
    "adapters_not_composable",
    `an adapter of kind ${kind} has no weighted sum with others; use it alone, or combine logits`,
  );
}

/** Both are weighted already and of one kind and place. */
function sum(one: AdapterModule, other: AdapterModule): AdapterModule {
  switch (one.kind) {
    case "low-rank":
    case "head": {
      const { a, b, rank } = other as typeof one;
      return { ...one, rank: one.rank + rank, a: joined(one.a, a), b: joined(one.b, b) };
    }
    case "embedding": {
      const { a, b, rank } = other as typeof one;
      return {
        ...one,
        rank: one.rank + rank,
        a: interleaved([one.a, one.rank], [a, rank]),
        b: joined(one.b, b),
      };
    }
    case "channels": {
      const { channels, b } = other as typeof one;
      const width = one.b.length / one.channels.length;
      const merged = addRows([one.channels, one.b], [channels, b], width);
      return { ...one, channels: merged.places, b: merged.values };
    }
    case "sparse": {
      const { indices, values } = other as typeof one;
      const merged = addRows([one.indices, one.values], [indices, values], 1);
      return { ...one, indices: merged.places, values: merged.values };
    }
    case "scale": {
      const { scale, shift } = other as typeof one;
      const shifts = [one.shift, shift].filter((each) => each !== null);
      return {
        ...one,
        scale: one.scale.map((value, i) => value + scale[i]! - 1),
        shift: shifts.length === 0 ? null : shifts.reduce((a, b) => a.map((value, i) => value + b[i]!)),
      };
    }
    case "soft-prompt":
    case "prefix":
      throw notComposable(one.kind);
    default:
      return one satisfies never;
  }
}

type Floats = Float32Array<ArrayBuffer>;
type PlacedRows = readonly [places: Uint32Array, values: Float32Array];

/** Rows of `width` values by ascending place; rows at one place are added. */
function addRows(one: PlacedRows, other: PlacedRows, width: number) {
  const places = Uint32Array.from(new Set([...one[0], ...other[0]])).sort();
  const values: Floats = new Float32Array(places.length * width);
  for (const [own, rows] of [one, other]) {
    let at = 0; // both lists ascend
    for (const [row, place] of own.entries()) {
      while (places[at] !== place) at++;
      for (let i = 0; i < width; i++) {
        const target = at * width + i;
        values[target] = values[target]! + rows[row * width + i]!;
      }
    }
  }
  return { places, values };
}

function scaled(values: Floats, weight: number): Floats {
  return values.map((value) => value * weight);
}

function joined(one: Floats, other: Floats): Floats {
  const both: Floats = new Float32Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

/** Rows of two matrices [n, rank] side by side. */
function interleaved([one, left]: [Floats, number], [other, right]: [Floats, number]): Floats {
  const rows = one.length / left;
  const both: Floats = new Float32Array(rows * (left + right));
  for (let row = 0; row < rows; row++) {
    both.set(one.subarray(row * left, (row + 1) * left), row * (left + right));
    both.set(other.subarray(row * right, (row + 1) * right), row * (left + right) + left);
  }
  return both;
}

/** Decoded arrays are checked to be finite; a large weight can undo that. */
export function isFiniteAdapter(adapter: DecodedAdapter): boolean {
  return adapter.modules.every((module) =>
    moduleArrays(module).every(([, array]) => array.every((value) => Number.isFinite(value))),
  );
}
