// An adapter and an encoding per group of modules into a container, and what that cost.

import type { AdapterKind, AdapterModule, DecodedAdapter } from "../../kernels/adapter.ts";
import { decodeAgain, encodeModule } from "../container/encode-module.ts";
import type { Lineage } from "../container/manifest.ts";
import type { BaseIdentity } from "../container/read-container.ts";
import { type EncodedModule, writeContainer } from "../container/write-container.ts";
import { type GroupEncodings, groupOf, sixteenBitBytes } from "./module-groups.ts";
import { type ErrorSums, moduleError, relativeError } from "./weight-error.ts";

/** What is compressed, and what its container will say of it. */
export type PackSource = {
  readonly adapter: DecodedAdapter;
  readonly base: BaseIdentity;
  readonly lineage: Lineage | null;
  readonly metadata: Readonly<Record<string, string>>;
};

export type PackedAdapter = {
  readonly container: Uint8Array; // the *.cotenant file
  readonly encodings: GroupEncodings;
  readonly sixteenBitBytes: number; // the adapter's values at 16 bits, its indices at 32
  readonly ratio: number; // of that to the whole file
  readonly weightError: WeightError;
};

/** Norm of the change in what the adapter adds to the weights, relative to it. */
export type WeightError = {
  readonly total: number;
  readonly byKind: Readonly<Partial<Record<AdapterKind, number>>>;
};

export function pack(source: PackSource, encodings: GroupEncodings): PackedAdapter {
  const { modules } = source.adapter;
  const encoded = encodeModules(source, encodings);
  const container = containerOf(source, encoded);
  const fullBytes = sixteenBitBytes(modules);
  return {
    container,
    encodings,
    sixteenBitBytes: fullBytes,
    ratio: fullBytes / container.length,
    weightError: weightErrorOf(
      modules,
      encoded.map((each, i) => decodeAgain(modules[i]!, each)),
    ),
  };
}

/** As `pack`, the file alone: for searches. */
export function packedBytes(source: PackSource, encodings: GroupEncodings): number {
  return containerOf(source, encodeModules(source, encodings)).length;
}

function encodeModules({ adapter, base }: PackSource, encodings: GroupEncodings): EncodedModule[] {
  return adapter.modules.map((module) => encodeModule(module, encodings[groupOf(module)], base.targets));
}

function containerOf({ base, lineage, metadata }: PackSource, modules: readonly EncodedModule[]): Uint8Array {
  return writeContainer({ baseFingerprint: base.fingerprint, lineage, metadata, modules });
}

function weightErrorOf(originals: readonly AdapterModule[], decoded: readonly AdapterModule[]): WeightError {
  const sums = originals.map((original, i) => moduleError(original, decoded[i]!));
  const byKind = new Map<AdapterKind, ErrorSums[]>();
  for (const [i, { kind }] of originals.entries()) {
    byKind.set(kind, [...(byKind.get(kind) ?? []), sums[i]!]);
  }
  return {
    total: relativeError(sums),
    byKind: Object.fromEntries([...byKind].map(([kind, own]) => [kind, relativeError(own)])),
  };
}
