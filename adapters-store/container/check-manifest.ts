// A container's manifest against the base model and the size of its file, before any tensor is read: what each
// module may be, and which bytes its tensors are.

import type { AdapterTargets } from "../../kernels/adapter.ts";
import { AdapterError } from "../../kernels/errors.ts";
import { floatCodecs, indexCodecs } from "../codecs/index.ts";
import { malformed } from "./container-header.ts";
import type { ContainerManifest, ModuleEntry, TensorEntry } from "./manifest.ts";
import { kindLayouts, type Lengths, type TensorLayout } from "./module-layouts.ts";

/** Decoded tensors of one adapter, in all: rank 64 on every projection of an 8B model takes 670 MB. */
export const maxDecodedBytes = 1 << 30;

export type TensorPlan = {
  readonly name: string;
  readonly holds: TensorLayout["holds"];
  readonly codec: string;
  readonly count: number;
  readonly rows: number; // of its shape
  readonly offset: number; // from the start of the file
  readonly bytes: number;
  readonly ledgerFirst: number; // of the values that the ledger makes, this tensor's first
};

export type ModulePlan = {
  readonly entry: ModuleEntry;
  readonly tensors: readonly TensorPlan[];
  readonly indexLimit: number; // what its indices stay below
};

export type ContainerPlan = {
  readonly ledger: { readonly offset: number; readonly bytes: number };
  readonly modules: readonly ModulePlan[];
};

export type CheckedAgainst = {
  readonly targets: AdapterTargets;
  readonly tensorsAt: number;
  readonly fileBytes: number;
};

/**
 * Throws AdapterError: `no_modules_matched`, `module_not_supported`, `adapter_module_duplicate`,
 * `adapter_wrong_shape`, `container_codec_unknown`, `container_too_large`, `container_truncated`,
 * `container_malformed`.
 */
export function planContainer(manifest: ContainerManifest, against: CheckedAgainst): ContainerPlan {
  const { targets, tensorsAt, fileBytes } = against;
  if (manifest.modules.length === 0) {
    throw new AdapterError("no_modules_matched", "the container holds no modules; write it from an adapter");
  }
  refuseDuplicates(manifest.modules);
  checkPrefix(manifest.modules, targets);
  let offset = tensorsAt + manifest.ledgerBytes;
  let decodedBytes = 0;
  let ledgerFirst = 0;
  const planTensor = (entry: TensorEntry, layout: TensorLayout, name: string): TensorPlan => {
    const count = entry.shape.reduce((product, length) => product * length, 1);
    const plan = {
      name,
      holds: layout.holds,
      codec: entry.codec,
      count,
      rows: entry.shape[0]!,
      offset,
      bytes: entry.bytes,
      ledgerFirst,
    };
    offset += entry.bytes;
    decodedBytes += count * 4;
    if (entry.codec === "ledger" || entry.codec === "masked-ledger") ledgerFirst += count;
    if (decodedBytes > maxDecodedBytes) {
      throw new AdapterError(
        "container_too_large",
        `the container's tensors take more than ${maxDecodedBytes} bytes when decoded; lower the ranks`,
      );
    }
    return plan;
  };
  const modules = manifest.modules.map((entry) => {
    const where = describeModule(entry);
    const lengths = lengthsOf(entry, targets);
    return {
      entry,
      indexLimit: kindLayouts[entry.kind].own?.limit(lengths) ?? 0,
      tensors: Object.entries(kindLayouts[entry.kind].tensors).flatMap(([name, layout]) => {
        const tensor = entry.tensors[name];
        if (tensor === undefined) return []; // optional ones only, as parsed
        checkTensor(tensor, layout, { where: `${where}'s ${name}`, lengths });
        return [planTensor(tensor, layout, name)];
      }),
    };
  });
  if (offset > fileBytes) {
    throw new AdapterError(
      "container_truncated",
      `the container's tensors end at byte ${offset}, but the file has ${fileBytes}; download or copy it again`,
    );
  }
  if (offset < fileBytes)
    throw malformed(`bytes follow the last tensor, which ends at ${offset} of ${fileBytes}`);
  return { ledger: { offset: tensorsAt, bytes: manifest.ledgerBytes }, modules };
}

export function describeModule({ kind, layer, projection }: ModuleEntry): string {
  return [layer === null ? "" : `layer ${layer}, `, projection === null ? "" : `${projection}, `, kind].join(
    "",
  );
}

function checkTensor(
  { codec, shape }: TensorEntry,
  layout: TensorLayout,
  { where, lengths }: { readonly where: string; readonly lengths: Lengths },
): void {
  const codecs = layout.holds === "floats" ? floatCodecs : indexCodecs;
  if (!Object.hasOwn(codecs, codec)) {
    throw new AdapterError(
      "container_codec_unknown",
      `${where} has the codec ${JSON.stringify(codec.slice(0, 100))}, which is none of ${Object.keys(codecs).join(", ")}; write it in one of them`,
    );
  }
  const expected = layout.shape(lengths);
  if (shape.length === expected.length && shape.every((length, i) => length === expected[i])) return;
  throw new AdapterError(
    "adapter_wrong_shape",
    `${where} is [${shape.slice(0, 10)}], but the base and the module's length ask for [${expected}]; train the adapter on this base`,
  );
}

function lengthsOf(entry: ModuleEntry, targets: AdapterTargets): Lengths {
  const { layer, projection, own } = entry;
  const where = describeModule(entry);
  if (layer !== null && layer >= targets.layers) {
    throw new AdapterError(
      "module_not_supported",
      `${where}: the base has layers 0 to ${targets.layers - 1}; train the adapter on this base`,
    );
  }
  const shape = projection === null ? { in: 1, out: 1 } : targets.shapes[projection];
  const lengths = { ...shape, own, targets };
  const layout = kindLayouts[entry.kind].own;
  if (layout !== null && own > layout.limit(lengths)) {
    throw new AdapterError(
      "adapter_wrong_shape",
      `${where} has ${own} ${layout.name}, the base has room for ${layout.limit(lengths)}; train the adapter on this base`,
    );
  }
  return lengths;
}

function refuseDuplicates(modules: readonly ModuleEntry[]): void {
  const seen = new Set<string>();
  for (const entry of modules) {
    const where = describeModule(entry);
    if (seen.has(where)) {
      throw new AdapterError("adapter_module_duplicate", `the container holds ${where} twice; write it once`);
    }
    seen.add(where);
  }
}

/** Virtual tokens stand in front of the sequence in every layer or in none. */
function checkPrefix(modules: readonly ModuleEntry[], targets: AdapterTargets): void {
  const prefixes = modules.filter(({ kind }) => kind === "prefix");
  if (prefixes.length === 0) return;
  if (prefixes.length === targets.layers && prefixes.every(({ own }) => own === prefixes[0]!.own)) return;
  throw new AdapterError(
    "adapter_wrong_shape",
    `the container has prefixes of ${[...new Set(prefixes.map(({ own }) => own))].slice(0, 5)} tokens in ${prefixes.length} of ${targets.layers} layers; give every layer one of the same length`,
  );
}
