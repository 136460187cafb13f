// A request's list of weighted adapters: checked, and in the one form that equal compositions share. Plain data, for
// threads and caches. Knows no HTTP, and not where an adapter's version comes from.

import { createHash } from "node:crypto";
import { AdapterError } from "../../kernels/errors.ts";

export const mostAdapters = 16;

/** `weight` is replaced by that of a range in the layers from `from` to `to`, both included. */
export type WeightedAdapter = {
  readonly id: string;
  readonly weight: number;
  readonly layers?: readonly LayerRange[];
};
export type LayerRange = { readonly from: number; readonly to: number; readonly weight: number };

/** With the version that the id stands for. */
export type WeightedVersion = Omit<WeightedAdapter, "id"> & { readonly version: string };

export type CompositionPart = {
  readonly version: string;
  readonly weight: number; // of the embeddings and the head
  readonly layerWeights: readonly number[]; // one per layer
};

export type Composition = {
  readonly key: string; // equal for compositions that change the base alike
  readonly parts: readonly CompositionPart[]; // by version, none twice; empty where all weights are zero
};

/** @throws AdapterError `composition_invalid` naming the entry and the field */
export function parseComposition(value: unknown, layers: number): WeightedAdapter[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > mostAdapters) {
    throw invalid(`adapters must be a list of 1 to ${mostAdapters} entries {id, weight}`);
  }
  return value.map((entry: unknown, index) => parseAdapter(entry, `adapters[${index}]`, layers));
}

/** @throws AdapterError `composition_invalid` where weights of one version add up to infinity */
export function compositionOf(adapters: readonly WeightedVersion[], layers: number): Composition {
  const byVersion = Map.groupBy(adapters, ({ version }) => version);
  const parts = [...byVersion.keys()]
    .sort()
    .map((version): CompositionPart => {
      const same = byVersion.get(version)!;
      return {
        version,
        weight: total(same.map(({ weight }) => weight)),
        layerWeights: Array.from({ length: layers }, (_, layer) =>
          total(same.map((adapter) => weightInLayer(adapter, layer))),
        ),
      };
    })
    .filter(({ weight, layerWeights }) => [weight, ...layerWeights].some((each) => each !== 0));
  const content = parts.map(({ version, weight, layerWeights }) => [version, weight, ...layerWeights]);
  const key = createHash("sha256")
    .update(`cotenant composition 1\n${JSON.stringify(content)}`)
    .digest("hex");
  return { key, parts };
}

/** @param layer null = embeddings and head */
export function weightOf({ weight, layerWeights }: CompositionPart, layer: number | null): number {
  return layer === null ? weight : layerWeights[layer]!;
}

/** The version whose own adapter the composition is, or null: it need not be composed. */
export function plainVersion({ parts }: Composition): string | null {
  const [only, ...others] = parts;
  if (only === undefined || others.length > 0) return null;
  return [only.weight, ...only.layerWeights].every((weight) => weight === 1) ? only.version : null;
}

function weightInLayer({ weight, layers = [] }: WeightedVersion, layer: number): number {
  return layers.find(({ from, to }) => from <= layer && layer <= to)?.weight ?? weight;
}

/** In one order, so that the sum does not depend on that of the request. */
function total(weights: readonly number[]): number {
  const sum = weights.toSorted((one, other) => one - other).reduce((one, other) => one + other, 0);
  return checkWeight(sum, "the sum of one adapter's weights");
}

function parseAdapter(value: unknown, where: string, layers: number): WeightedAdapter {
  const entry = fieldsOf(value, where, ["id", "weight", "layers"]);
  if (typeof entry.id !== "string" || entry.id === "") throw invalid(`${where}.id must be an adapter's id`);
  const weight = checkWeight(entry.weight, `${where}.weight`);
  if (entry.layers === undefined) return { id: entry.id, weight };
  if (!Array.isArray(entry.layers)) throw invalid(`${where}.layers must be a list of {from, to, weight}`);
  const ranges = entry.layers.map((range: unknown, index) =>
    parseRange(range, `${where}.layers[${index}]`, layers),
  );
  const ascending = ranges.toSorted((one, other) => one.from - other.from);
  if (ascending.some(({ from }, index) => index > 0 && from <= ascending[index - 1]!.to)) {
    throw invalid(`${where}.layers has ranges that overlap; give each layer one weight`);
  }
  return { id: entry.id, weight, layers: ranges };
}

function parseRange(value: unknown, where: string, layers: number): LayerRange {
  const { from, to, weight } = fieldsOf(value, where, ["from", "to", "weight"]);
  const isLayer = (each: unknown): each is number =>
    Number.isInteger(each) && (each as number) >= 0 && (each as number) < layers;
  if (!isLayer(from) || !isLayer(to) || from > to) {
    throw invalid(`${where} must go from a layer to a later one; the base has layers 0 to ${layers - 1}`);
  }
  return { from, to, weight: checkWeight(weight, `${where}.weight`) };
}

/** Weights multiply float32 values. */
function checkWeight(value: unknown, where: string): number {
  if (typeof value === "number" && Number.isFinite(Math.fround(value))) return value;
  throw invalid(`${where} must be a finite number`);
}

function fieldsOf(value: unknown, where: string, names: readonly string[]): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid(`${where} must be an object with ${names.join(", ")}`);
  }
  const unknown = Object.keys(value).find((name) => !names.includes(name));
  if (unknown !== undefined) throw invalid(`${where}.${unknown} is not known; use ${names.join(", ")}`);
  return value as Record<string, unknown>;
}

function invalid(message: string): AdapterError {
  return new AdapterError("composition_invalid", message);
}
