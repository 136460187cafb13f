// Reads a *.cotenant container: header, manifest, hash, then tensor by tensor. The file is as untrusted as an
// upload; nothing is allocated for a tensor before all that is said of it has been checked.

import { createHash } from "node:crypto";
import type { AdapterModule, AdapterTargets, DecodedAdapter } from "../../kernels/adapter.ts";
import { findNonFinite } from "../../kernels/checkpoint/finite.ts";
import { AdapterError } from "../../kernels/errors.ts";
import { type FloatCodecName, floatCodecs, type IndexCodecName, indexCodecs } from "../codecs/index.ts";
import type { Floats, Indices, TensorCodec } from "../codecs/tensor-codec.ts";
import type { ByteSource } from "./byte-source.ts";
import { describeModule, type ModulePlan, planContainer } from "./check-manifest.ts";
import { readHeader } from "./container-header.ts";
import { type ContainerManifest, parseManifest } from "./manifest.ts";
import { kindLayouts } from "./module-layouts.ts";

const hashPieceBytes = 1 << 18; // stays in the processor's cache

export type BaseIdentity = { readonly targets: AdapterTargets; readonly fingerprint: string };

export type Container = { readonly manifest: ContainerManifest; readonly adapter: DecodedAdapter };

/** What the container says of itself; its tensors are not looked at. */
export function readManifest(source: ByteSource): ContainerManifest {
  return parseManifest(readHeader(source).manifestText);
}

/**
 * Throws AdapterError: `adapter_base_mismatch`, `container_hash_mismatch`, `container_tensor_malformed`,
 * `non_finite_weights`, and those of the header, the manifest and `planContainer`.
 */
export function readContainer(source: ByteSource, base: BaseIdentity): Container {
  const { manifestText, tensorsAt } = readHeader(source);
  const manifest = parseManifest(manifestText);
  if (manifest.base !== base.fingerprint) {
    throw new AdapterError(
      "adapter_base_mismatch",
      `the container was made for the base ${manifest.base.slice(0, 64)}, this server has ${base.fingerprint}; serve that base, or export the adapter as PEFT from it and upload that`,
    );
  }
  const plan = planContainer(manifest, { targets: base.targets, tensorsAt, fileBytes: source.sizeBytes });
  checkHash(source, tensorsAt, manifest.sha256);
  const ledgerBytes = source.read(plan.ledger.offset, plan.ledger.bytes);
  const modules = plan.modules.map((module) => decodeModule(module, source, ledgerBytes));
  return { manifest, adapter: { modules } };
}

function checkHash(source: ByteSource, tensorsAt: number, expected: string): void {
  const hash = createHash("sha256");
  const piece = new Uint8Array(hashPieceBytes);
  for (let at = tensorsAt; at < source.sizeBytes; at += hashPieceBytes) {
    const length = Math.min(hashPieceBytes, source.sizeBytes - at);
    hash.update(source.read(at, length, piece.subarray(0, length)));
  }
  if (hash.digest("hex") === expected) return;
  throw new AdapterError(
    "container_hash_mismatch",
    "the container's tensors are not those that its manifest was written for; download or copy it again",
  );
}

function decodeModule(
  { entry, tensors, indexLimit }: ModulePlan,
  source: ByteSource,
  ledgerBytes: Uint8Array,
): AdapterModule {
  const layout = kindLayouts[entry.kind];
  const floats = new Map<string, Floats>();
  const indices = new Map<string, Indices>();
  for (const plan of tensors) {
    const where = `${describeModule(entry)}'s ${plan.name}`;
    const context = { rows: plan.rows, ledger: { bytes: ledgerBytes, first: plan.ledgerFirst } };
    if (plan.holds === "indices") {
      const bytes = source.read(plan.offset, plan.bytes);
      const values = indexCodecs[plan.codec as IndexCodecName].decode(bytes, plan.count, context);
      indices.set(plan.name, checkIndices(values, where, indexLimit));
      continue;
    }
    const codec: TensorCodec<Floats> = floatCodecs[plan.codec as FloatCodecName];
    const values =
      codec.adopt && source.take
        ? codec.adopt(source.take(plan.offset, plan.bytes), plan.count)
        : codec.decode(source.read(plan.offset, plan.bytes), plan.count, context);
    if (plan.name === layout.scaled && entry.scale !== 1) scaleInPlace(values, entry.scale);
    // Looking at every value is a quarter of what reading a ternary tensor takes.
    const isKnownFinite = codec.hasOneMagnitude && Number.isFinite(values.find((value) => value !== 0) ?? 0);
    floats.set(plan.name, isKnownFinite ? values : checkFinite(values, where));
  }
  return layout.build(entry, entry.own, {
    floats: (name) => floats.get(name)!,
    optionalFloats: (name) => floats.get(name) ?? null,
    indices: (name) => indices.get(name)!,
  });
}

function scaleInPlace(values: Floats, scale: number): void {
  for (let i = 0; i < values.length; i++) values[i] = values[i]! * scale;
}

function checkFinite(values: Floats, where: string): Floats {
  const at = findNonFinite(values);
  if (at < 0) return values;
  throw new AdapterError(
    "non_finite_weights",
    `${where} holds ${values[at]} at ${at}; the adapter was damaged before it was written, or its training diverged`,
  );
}

function checkIndices(values: Indices, where: string, limit: number): Indices {
  for (let i = 0; i < values.length; i++) {
    if (values[i]! < limit && (i === 0 || values[i]! > values[i - 1]!)) continue;
    throw new AdapterError(
      "container_tensor_malformed",
      `${where} holds ${values[i]} at ${i}, which does not ascend below ${limit}; write the container again`,
    );
  }
  return values;
}
