// Which adapter a request's `model` (and LoRAX's `adapter_id`) means. Never falls back to the base in silence.

import type { Blend } from "../scheduler/protocol.ts";
import { InvalidFieldError, ModelNotFoundError } from "./errors.ts";
import type { ServedAdapter } from "./served-adapters.ts";

export type ModelDirectory = {
  readonly baseName: string;
  readonly adapter: (id: string) => ServedAdapter | undefined; // of those that the caller may use
};

export type ModelFields = { readonly model: string; readonly adapterId: string | null };

export type ResolvedModel = {
  readonly name: string; // what the answer's `model` says
  readonly adapter: Pick<ServedAdapter, "version"> | null; // null = the base alone
  readonly blend: Blend | null; // several models side by side, of which `adapter` is one
  readonly usageVersion: string | null; // what the ledger says
};

const loraxBase = "__base_model__";

/** Throws ModelNotFoundError, or InvalidFieldError where the two fields name different adapters. */
export function resolveModel(fields: ModelFields, directory: ModelDirectory): ResolvedModel {
  const byModel = resolveName(fields.model, directory);
  if (fields.adapterId === null || fields.adapterId === "") return byModel;
  const byAdapterId =
    fields.adapterId === loraxBase
      ? base(directory)
      : resolveAdapter(fields.adapterId, directory, "adapter_id");
  if (byModel.adapter !== null && byModel.name !== byAdapterId.name) {
    throw new InvalidFieldError(
      "adapter_id",
      `names another adapter than model does (${byModel.name}); give one`,
    );
  }
  return byAdapterId;
}

/** `base`, `adapter`, or SGLang's `base:adapter`, whose halves may have spaces and whose adapter may be empty. */
function resolveName(name: string, directory: ModelDirectory): ResolvedModel {
  const trimmed = name.trim();
  if (trimmed === directory.baseName) return base(directory);
  const searchFrom = trimmed.startsWith(directory.baseName) ? directory.baseName.length : 0;
  const colon = trimmed.indexOf(":", searchFrom);
  if (colon < 0) return resolveAdapter(trimmed, directory, "model");
  if (trimmed.slice(0, colon).trim() !== directory.baseName) throw new ModelNotFoundError(name, "model");
  const adapterId = trimmed.slice(colon + 1).trim();
  return adapterId === "" ? base(directory) : resolveAdapter(adapterId, directory, "model");
}

function base(directory: ModelDirectory): ResolvedModel {
  return { name: directory.baseName, adapter: null, blend: null, usageVersion: null };
}

function resolveAdapter(id: string, directory: ModelDirectory, param: string): ResolvedModel {
  const adapter = directory.adapter(id);
  if (!adapter) throw new ModelNotFoundError(id, param);
  return { name: adapter.id, adapter, blend: null, usageVersion: adapter.version };
}
