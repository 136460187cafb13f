// A container's manifest: its types, and the way from untrusted text to a checked one. Knows the JSON, not the
// base model (check-manifest.ts does).

import { type AdapterKind, type Projection, projections } from "../../kernels/adapter.ts";
import { findDuplicateKey } from "../../kernels/checkpoint/duplicate-keys.ts";
import { malformed } from "./container-header.ts";
import { kindLayouts, type ModulePlace } from "./module-layouts.ts";

export type TensorEntry = {
  readonly codec: string;
  readonly shape: readonly number[];
  readonly bytes: number;
};

export type ModuleEntry = ModulePlace & {
  readonly kind: AdapterKind;
  readonly own: number; // its rank, tokens, channels or entries; 1 where its kind has none
  readonly scale: number; // 1 where its kind has none
  readonly tensors: Readonly<Record<string, TensorEntry>>;
};

/** How the adapter came to be: an operation on other versions. */
export type Lineage = {
  readonly operation: string; // compress, merge, train, ...
  readonly parents: readonly string[]; // versions
  readonly parameters: Readonly<Record<string, string | number>>;
};

export type ContainerManifest = {
  readonly base: string; // fingerprint
  readonly sha256: string; // of all bytes from the first tensor to the end of the file
  readonly ledgerBytes: number;
  readonly modules: readonly ModuleEntry[];
  readonly lineage: Lineage | null;
  readonly metadata: Readonly<Record<string, string>>;
};

export function formatManifest(manifest: ContainerManifest): string {
  return JSON.stringify({ ...manifest, modules: manifest.modules.map(formatModule) });
}

function formatModule({ kind, layer, projection, own, scale, tensors }: ModuleEntry): object {
  const layout = kindLayouts[kind];
  return {
    kind,
    ...(layer === null ? {} : { layer }),
    ...(projection === null ? {} : { projection }),
    ...(layout.own === null ? {} : { [layout.own.name]: own }),
    ...(layout.scaled === null ? {} : { scale }),
    tensors,
  };
}

/** Throws AdapterError `container_malformed`. Unknown fields are refused, never skipped. */
export function parseManifest(text: string): ContainerManifest {
  const manifest = fieldsOf(parseJson(text), "the manifest", [
    "base",
    "sha256",
    "ledgerBytes",
    "modules",
    "lineage",
    "metadata",
  ]);
  const { base, sha256, ledgerBytes, modules } = manifest;
  if (typeof base !== "string") throw malformed("base is no text");
  if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256)) throw malformed("sha256 is no hash");
  if (!isLength(ledgerBytes)) throw malformed("ledgerBytes is no length");
  if (!Array.isArray(modules)) throw malformed("modules is no list");
  return {
    base,
    sha256,
    ledgerBytes,
    modules: modules.map((module, i) => parseModule(module, `module ${i}`)),
    lineage: parseLineage(manifest.lineage),
    metadata: parseTexts(manifest.metadata, "metadata"),
  };
}

function parseJson(text: string): unknown {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw malformed("its manifest is not JSON", cause);
  }
  const duplicate = findDuplicateKey(text);
  if (duplicate !== undefined) throw malformed(`its manifest holds ${shown(duplicate)} twice`);
  return parsed;
}

function parseModule(value: unknown, where: string): ModuleEntry {
  if (!isRecord(value)) throw malformed(`${where} is no object`);
  const { kind } = value;
  if (typeof kind !== "string" || !Object.hasOwn(kindLayouts, kind)) {
    throw malformed(`${where} has the unknown kind ${shown(kind)}`);
  }
  const layout = kindLayouts[kind as AdapterKind];
  const hasLayer = layout.place !== "base";
  const hasProjection = layout.place === "projection";
  const { layer, projection, scale, tensors } = fieldsOf(value, where, [
    "kind",
    ...(hasLayer ? ["layer"] : []),
    ...(hasProjection ? ["projection"] : []),
    ...(layout.own === null ? [] : [layout.own.name]),
    ...(layout.scaled === null ? [] : ["scale"]),
    "tensors",
  ]);
  const own = layout.own === null ? 1 : value[layout.own.name];
  if (!isLength(own) || own < 1) throw malformed(`${where} has ${layout.own?.name} = ${shown(own)}`);
  if (hasLayer && !isLength(layer)) throw malformed(`${where} has layer = ${shown(layer)}`);
  if (hasProjection && !projections.some((known) => known === projection)) {
    throw malformed(`${where} has projection = ${shown(projection)}`);
  }
  if (layout.scaled !== null && (typeof scale !== "number" || !Number.isFinite(scale))) {
    throw malformed(`${where} has scale = ${shown(scale)}`);
  }
  return {
    kind: kind as AdapterKind,
    layer: hasLayer ? (layer as number) : null,
    projection: hasProjection ? (projection as Projection) : null,
    own,
    scale: layout.scaled === null ? 1 : (scale as number),
    tensors: parseTensors(tensors, where, kind as AdapterKind),
  };
}

function parseTensors(value: unknown, where: string, kind: AdapterKind): Record<string, TensorEntry> {
  const layouts = Object.entries(kindLayouts[kind].tensors);
  const names = (isOptional: boolean) =>
    layouts.filter(([, { optional = false }]) => optional === isOptional).map(([name]) => name);
  const tensors = fieldsOf(value, `${where}'s tensors`, { required: names(false), optional: names(true) });
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => {
      const { codec, shape, bytes } = fieldsOf(tensor, `${where}'s ${name}`, ["codec", "shape", "bytes"]);
      if (typeof codec !== "string") throw malformed(`${where}'s ${name} has codec = ${shown(codec)}`);
      if (!Array.isArray(shape) || !shape.every(isLength)) {
        throw malformed(`${where}'s ${name} has shape = ${shown(shape)}`);
      }
      if (!isLength(bytes)) throw malformed(`${where}'s ${name} has bytes = ${shown(bytes)}`);
      return [name, { codec, shape, bytes }];
    }),
  );
}

function parseLineage(value: unknown): Lineage | null {
  if (value === null) return null;
  const { operation, parents, parameters } = fieldsOf(value, "lineage", [
    "operation",
    "parents",
    "parameters",
  ]);
  if (typeof operation !== "string") throw malformed("lineage's operation is no text");
  if (!Array.isArray(parents) || !parents.every((parent) => typeof parent === "string")) {
    throw malformed("lineage's parents are no list of texts");
  }
  if (
    !isRecord(parameters) ||
    !Object.values(parameters).every((each) => typeof each === "string" || Number.isFinite(each))
  ) {
    throw malformed("lineage's parameters are no texts and numbers");
  }
  return { operation, parents, parameters: parameters as Lineage["parameters"] };
}

function parseTexts(value: unknown, where: string): Readonly<Record<string, string>> {
  if (!isRecord(value) || !Object.values(value).every((text) => typeof text === "string")) {
    throw malformed(`${where} is no map of texts`);
  }
  return value as Record<string, string>;
}

/** An object with all of `required` and nothing else, but for what is optional. */
function fieldsOf(
  value: unknown,
  where: string,
  fields: readonly string[] | { readonly required: readonly string[]; readonly optional: readonly string[] },
): Record<string, unknown> {
  const { required, optional } = "required" in fields ? fields : { required: fields, optional: [] };
  if (!isRecord(value)) throw malformed(`${where} is no object`);
  const missing = required.find((name) => !Object.hasOwn(value, name));
  if (missing !== undefined) throw malformed(`${where} lacks ${missing}`);
  const unknown = Object.keys(value).find((name) => !required.includes(name) && !optional.includes(name));
  if (unknown !== undefined) throw malformed(`${where} has the unknown field ${shown(unknown)}`);
  return value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isLength(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32;
}

/** A bounded rendering of an untrusted value. */
function shown(value: unknown): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 100);
}
