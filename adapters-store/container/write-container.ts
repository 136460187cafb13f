// Writes a *.cotenant container from modules whose tensors are encoded already.

import { createHash } from "node:crypto";
import { AdapterError } from "../../kernels/errors.ts";
import type { CodecName } from "../codecs/index.ts";
import { hashInTurns } from "../hash-in-turns.ts";
import { writeHeader } from "./container-header.ts";
import { formatManifest, type Lineage, type ModuleEntry } from "./manifest.ts";
import { kindLayouts } from "./module-layouts.ts";

export type EncodedTensor = {
  readonly codec: CodecName;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
};

export type EncodedModule = Omit<ModuleEntry, "tensors"> & {
  readonly tensors: Readonly<Record<string, EncodedTensor>>;
};

/** What a container says beside its modules. */
export type ContainerIdentity = {
  readonly baseFingerprint: string;
  readonly lineage: Lineage | null;
  readonly metadata: Readonly<Record<string, string>>;
};

export type ContainerContent = ContainerIdentity & {
  readonly modules: readonly EncodedModule[];
  readonly ledger?: Uint8Array; // what the tensors of codec `ledger` share
};

/** The whole file. Throws AdapterError `container_too_large` for a manifest beyond what readers take. */
export function writeContainer(content: ContainerContent): Uint8Array {
  const tensors = tensorBytes(content);
  const hash = createHash("sha256");
  for (const bytes of tensors) hash.update(bytes);
  return Buffer.concat([headerOf(content, hash.digest("hex")), ...tensors]);
}

/** As `writeContainer`, in pieces that are the tensors' own memory; the thread answers requests meanwhile. */
export async function containerPieces(content: ContainerContent): Promise<readonly Uint8Array[]> {
  const tensors = tensorBytes(content);
  const hash = await hashInTurns(tensors);
  return [headerOf(content, hash.toString("hex")), ...tensors];
}

/** What follows the header. */
function tensorBytes({ modules, ledger }: ContainerContent): Uint8Array[] {
  const tensors = modules.flatMap((module) => tensorsInOrder(module).map(([, { bytes }]) => bytes));
  return ledger === undefined ? tensors : [ledger, ...tensors];
}

function headerOf(content: ContainerContent, sha256: string): Uint8Array {
  const { baseFingerprint, lineage, metadata, modules, ledger } = content;
  const entries = modules.map(
    (module): ModuleEntry => ({
      ...module,
      tensors: Object.fromEntries(tensorsInOrder(module).map(([name, tensor]) => [name, entryOf(tensor)])),
    }),
  );
  const text = formatManifest({
    base: baseFingerprint,
    sha256,
    ledgerBytes: ledger?.length ?? 0,
    modules: entries,
    lineage,
    metadata,
  });
  if (entries.length === 0) {
    throw new AdapterError("no_modules_matched", "an adapter without modules cannot be written");
  }
  return writeHeader(text);
}

function tensorsInOrder({ kind, tensors }: EncodedModule): [name: string, tensor: EncodedTensor][] {
  return Object.keys(kindLayouts[kind].tensors).flatMap((name): [string, EncodedTensor][] => {
    const tensor = tensors[name];
    return tensor === undefined ? [] : [[name, tensor]];
  });
}

function entryOf({ codec, shape, bytes }: EncodedTensor): ModuleEntry["tensors"][string] {
  return { codec, shape, bytes: bytes.length };
}
