// Writes the golden container: every kind and every codec. Run it, then read_container.py, when the format gets a
// new version; the files of all versions are checked in.
//
//   node tests/container/write-golden.ts && python3 tests/container/read_container.py \
//     tests/container/version-2.cotenant > tests/container/version-2.jsonl

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Encoding } from "../../adapters-store/codecs/encode-floats.ts";
import { encodeLedger } from "../../adapters-store/codecs/ledger.ts";
import { encodeMaskedShape } from "../../adapters-store/codecs/masked-ledger.ts";
import { bytesOf } from "../../adapters-store/codecs/tensor-codec.ts";
import { everyKind, fixtureBase, lowRank } from "../../adapters-store/container/container-fixture.ts";
import { encodeModule } from "../../adapters-store/container/encode-module.ts";
import { type EncodedModule, writeContainer } from "../../adapters-store/container/write-container.ts";

const { targets, fingerprint } = fixtureBase;

/** Taken in turns by the modules of everyKind. */
const encodings: readonly Encoding[] = [
  { codec: "ternary", density: 0.3, positions: "urn" },
  { codec: "ternary", density: 0.9, positions: "urn" },
  { codec: "f32" },
  { codec: "f16" },
  { codec: "bf16" },
  { codec: "int8", groupSize: 8 },
  { codec: "int4", groupSize: 16 },
  { codec: "ternary", density: 0.2, positions: "rice" },
  { codec: "ternary", density: 0.6, alpha: 1.5, positions: "bitmaps" },
  { codec: "sparse", density: 0.4 },
];

const modules = everyKind().modules.map((module, i): EncodedModule => {
  const encoded = encodeModule(module, encodings[i % encodings.length]!, targets);
  if (module.kind === "low-rank") return { ...encoded, scale: -1.25 };
  if (module.kind !== "sparse") return encoded;
  const indices = { codec: "u32", shape: [module.indices.length], bytes: bytesOf(module.indices) } as const;
  return { ...encoded, tensors: { ...encoded.tensors, indices } };
});
const ledgerModules = lowRank(targets, 3, { layers: 2, projections: ["o", "up"] }).modules.map(
  (module): EncodedModule => {
    const encoded = encodeModule(module, { codec: "f32" }, targets);
    const made = (name: "a" | "b", deviation: number) => ({
      codec: "ledger" as const,
      shape: encoded.tensors[name]!.shape,
      bytes: bytesOf(Float32Array.of(deviation)),
    });
    return { ...encoded, tensors: { a: made("a", 0.3), b: made("b", 0) } };
  },
);
const maskedModules = lowRank(targets, 3, { layers: 2, projections: ["gate"] }).modules.map(
  (module): EncodedModule => {
    const encoded = encodeModule(module, { codec: "f32" }, targets);
    const made = (name: "a" | "b", bound: number) => ({
      codec: "masked-ledger" as const,
      shape: encoded.tensors[name]!.shape,
      bytes: encodeMaskedShape({ bound, share: Math.fround(0.4), maskSteps: 6 }),
    });
    return { ...encoded, tensors: { a: made("a", Math.fround(0.1)), b: made("b", 0) } };
  },
);

const path = join(import.meta.dirname, "version-2.cotenant");
writeFileSync(
  path,
  writeContainer({
    baseFingerprint: fingerprint,
    lineage: { operation: "merge", parents: ["one", "two"], parameters: { weight: 0.5 } },
    metadata: { made: "by tests/container/write-golden.ts" },
    modules: [...modules, ...ledgerModules, ...maskedModules],
    ledger: encodeLedger(
      123_456,
      Array.from({ length: 20 }, (_, i) => ({
        seed: (i * 2_654_435_761) % 2 ** 32,
        scalar: 0.01 * (i - 9.7),
      })),
    ),
  }),
);
