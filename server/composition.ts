// What a request's `adapters` mean: the base, one adapter as it is, or a version that is derived from several.
// Requests that mean the same get the same version, however they write it. Knows no tensors.

import { createHash } from "node:crypto";
import type { AdapterDeriver, WeightedVersion } from "../adapters-store/store-derive.ts";
import type { WeightedId } from "./composition-fields.ts";
import type { DerivedVersions } from "./derived-versions.ts";
import { InvalidFieldError, ModelNotFoundError, RequestError } from "./errors.ts";
import { type ModelDirectory, type ModelFields, type ResolvedModel, resolveModel } from "./model-name.ts";

export class AdaptersConflictError extends RequestError {
  constructor(name: string) {
    super(
      "adapters_conflict",
      `model or adapter_id names the adapter ${name} and adapters names others; let model name the base, or leave adapters out`,
      "adapters",
    );
  }
}

export type ComposedFields = ModelFields & { readonly adapters: readonly WeightedId[] | null };

/** What a ledger calls the version of several adapters: their weights are the client's, and without number. */
export const composedUsage = "composed";

type Part = WeightedVersion & { readonly id: string; readonly sizeBytes: number };

export class Compositions {
  readonly #derived: DerivedVersions;
  readonly #deriver: Pick<AdapterDeriver, "compose">;
  readonly #layers: number;

  constructor(
    derived: DerivedVersions,
    { deriver, layers }: { readonly deriver: Pick<AdapterDeriver, "compose">; readonly layers: number },
  ) {
    this.#derived = derived;
    this.#deriver = deriver;
    this.#layers = layers;
  }

  /** Throws AdaptersConflictError, InvalidFieldError, AdapterError `compositions_exhausted`; as resolveModel does. */
  resolve({ adapters, ...fields }: ComposedFields, directory: ModelDirectory): ResolvedModel {
    const named = resolveModel(fields, directory);
    if (adapters === null) return named;
    if (named.adapter !== null) throw new AdaptersConflictError(named.name);
    const parts = mergeParts(adapters.flatMap((entry, index) => this.#part(entry, index, directory)));
    const [first] = parts;
    if (first === undefined) return named;
    if (parts.length === 1 && isAsItIs(first)) {
      return { name: first.id, adapter: { version: first.version }, usageVersion: first.version };
    }
    return { ...named, adapter: { version: this.#versionOf(parts) }, usageVersion: composedUsage };
  }

  /** None where the entry is the base. */
  #part(entry: WeightedId, index: number, { baseName, adapter }: ModelDirectory): Part[] {
    const param = `adapters[${index}]`;
    const layerWeights = this.#layerWeights(entry, param);
    if (entry.id === baseName) return [];
    const found = adapter(entry.id);
    if (found === undefined) throw new ModelNotFoundError(entry.id, `${param}.id`);
    const { id, version, summary } = found;
    return [{ id, version, sizeBytes: summary.decodedBytes, weight: entry.weight, layerWeights }];
  }

  #layerWeights({ weight, layers }: WeightedId, param: string): readonly number[] {
    const weights = Array<number>(this.#layers).fill(weight);
    const given = new Set<number>();
    for (const [index, range] of (layers ?? []).entries()) {
      const where = `${param}.layers[${index}]`;
      if (range.to >= this.#layers) {
        throw new InvalidFieldError(
          `${where}.to`,
          `the model has ${this.#layers} layers, the first of which is 0`,
        );
      }
      for (let layer = range.from; layer <= range.to; layer++) {
        if (given.has(layer)) throw new InvalidFieldError(where, `gives layer ${layer} a second weight`);
        given.add(layer);
        weights[layer] = range.weight;
      }
    }
    return weights;
  }

  #versionOf(parts: readonly Part[]): string {
    const canonical = parts.map(({ version, weight, layerWeights }) => [version, weight, layerWeights]);
    const version = `compose:${createHash("sha256").update(JSON.stringify(canonical)).digest("hex")}`;
    this.#derived.register(version, {
      sizeBytes: parts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      make: () => this.#deriver.compose(parts),
      parents: parts.map((part) => part.version),
    });
    return version;
  }
}

/** One part for each version, in the order of versions; those that change nothing are left out. */
function mergeParts(parts: readonly Part[]): Part[] {
  const merged = [...Map.groupBy(parts, ({ version }) => version).values()].map((same) => same.reduce(sum));
  return merged
    .filter(({ weight, layerWeights }) => [weight, ...layerWeights].some((each) => each !== 0))
    .sort((one, other) => (one.version < other.version ? -1 : 1));
}

function sum(one: Part, other: Part): Part {
  const layerWeights = one.layerWeights.map((weight, layer) => weight + other.layerWeights[layer]!);
  return { ...one, weight: one.weight + other.weight, layerWeights };
}

function isAsItIs({ weight, layerWeights }: Part): boolean {
  return [weight, ...layerWeights].every((each) => each === 1);
}
