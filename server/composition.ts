// What a request's `adapters` mean: the base, one adapter as it is, or a version that is derived from several.
// Requests that mean the same get the same version, however they write it. Knows no tensors.

import {
  type Composition,
  compositionOf,
  parseComposition,
  plainVersion,
  type WeightedVersion,
} from "../adapters-store/combine/composition.ts";
import type { AdapterDeriver } from "../adapters-store/store-derive.ts";
import type { CompositionMode } from "./composition-fields.ts";
import type { DerivedVersions } from "./derived-versions.ts";
import { InvalidFieldError, ModelNotFoundError, RequestError } from "./errors.ts";
import { type ModelDirectory, type ModelFields, type ResolvedModel, resolveModel } from "./model-name.ts";
import type { ServedAdapter } from "./served-adapters.ts";

export class AdaptersConflictError extends RequestError {
  constructor(name: string) {
    super(
      "adapters_conflict",
      `model or adapter_id names the adapter ${name} and adapters names others; let model name the base, or leave adapters out`,
      "adapters",
    );
  }
}

/** `adapters` as the request has it, checked for its types alone. */
export type ComposedFields = ModelFields & {
  readonly adapters: readonly object[] | null;
  readonly mode: CompositionMode | null; // default linear
  readonly owner: string | null; // whose share of the compositions it takes
};

/** What the ledger calls the version of several adapters: their weights are the client's, and without number. */
export const composedUsage = "composed";

export type CompositionsOptions = {
  readonly derived: Pick<DerivedVersions, "register">;
  readonly deriver: Pick<AdapterDeriver, "compose">;
  readonly layers: number;
};

export class Compositions {
  readonly #options: CompositionsOptions;

  constructor(options: CompositionsOptions) {
    this.#options = options;
  }

  /**
   * Throws AdaptersConflictError, AdapterError `composition_invalid` and `compositions_exhausted`, and as
   * `resolveModel` does.
   */
  resolve({ adapters, mode, owner, ...fields }: ComposedFields, directory: ModelDirectory): ResolvedModel {
    const named = resolveModel(fields, directory);
    if (adapters === null) return named;
    if (named.adapter !== null) throw new AdaptersConflictError(named.name);
    const { composition, adapters: found } = this.read(adapters, directory);
    if (composition.parts.length === 0) return named;
    const plain = found.find(({ version }) => version === plainVersion(composition));
    if (plain !== undefined) {
      return { name: plain.id, adapter: plain, blend: null, usageVersion: plain.version };
    }
    if (mode === "logits") return blended(named, composition);
    return {
      ...named,
      adapter: { version: this.#register(composition, { owner, adapters: found }) },
      usageVersion: composedUsage,
    };
  }

  /** The base's own name stands for no change. Throws as `resolve` does. */
  read(adapters: readonly object[], { baseName, adapter }: ModelDirectory) {
    const { layers } = this.#options;
    const found: ServedAdapter[] = [];
    const weighted = parseComposition(adapters, layers).flatMap(({ id, ...weights }, index) => {
      if (id === baseName) return [];
      const served = adapter(id);
      if (served === undefined) throw new ModelNotFoundError(id, `adapters[${index}].id`);
      found.push(served);
      return [{ ...weights, version: served.version } satisfies WeightedVersion];
    });
    return { composition: compositionOf(weighted, layers), adapters: found };
  }

  #register(
    { key, parts }: Composition,
    { owner, adapters }: { readonly owner: string | null; readonly adapters: readonly ServedAdapter[] },
  ): string {
    const { derived, deriver } = this.#options;
    const version = `compose:${key}`;
    derived.register(version, {
      owner,
      sizeBytes: adapters.reduce((sum, { summary }) => sum + summary.decodedBytes, 0),
      make: () => deriver.compose(parts),
      parents: parts.map((part) => part.version),
    });
    return version;
  }
}

/** base + sum of weight (adapter - base), in next-token logits. */
function blended(named: ResolvedModel, { parts }: Composition): ResolvedModel {
  const ranged = parts.find(({ weight, layerWeights }) => layerWeights.some((each) => each !== weight));
  if (ranged !== undefined) {
    throw new InvalidFieldError(
      "adapters",
      'has weights by layer, which mean nothing to logits; leave layers out, or use mode "linear"',
    );
  }
  const baseWeight = 1 - parts.reduce((sum, { weight }) => sum + weight, 0);
  const members = [
    ...(baseWeight === 0 ? [] : [{ adapterVersion: null, weight: baseWeight }]),
    ...parts.map(({ version, weight }) => ({ adapterVersion: version, weight })),
  ];
  const [first] = parts;
  return {
    ...named,
    adapter: { version: first!.version },
    blend: { type: "logits", members },
    usageVersion: composedUsage,
  };
}
