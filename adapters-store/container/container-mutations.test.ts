// Damaged and hostile containers, by seed: refused with a code, or equal to the intact one; never anything else.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AdapterError } from "../../kernels/errors.ts";
import { randomAt } from "../../kernels/sampling/random.ts";
import { hashAdapter } from "../adapter-version.ts";
import type { Encoding } from "../codecs/encode-floats.ts";
import { memorySource } from "./byte-source.ts";
import { everyKind, fixtureBase } from "./container-fixture.ts";
import { encodeModule } from "./encode-module.ts";
import { readContainer } from "./read-container.ts";
import { rewriteManifest } from "./rewrite-fixture.ts";
import { writeContainer } from "./write-container.ts";

const mutationsPerCodec = 1500;
const encodings: readonly Encoding[] = [
  { codec: "f32" },
  { codec: "bf16" },
  { codec: "int8", groupSize: 8 },
  { codec: "int4", groupSize: 8 },
  { codec: "ternary", density: 0.3, positions: "rice" },
  { codec: "ternary", density: 0.5, positions: "bitmaps" },
  { codec: "ternary", density: 0.2, positions: "urn" },
  { codec: "sparse", density: 0.3 },
];

for (const encoding of encodings) {
  const name = JSON.stringify(encoding);
  const intact = writeContainer({
    baseFingerprint: fixtureBase.fingerprint,
    lineage: null,
    metadata: {},
    modules: everyKind().modules.map((module) => encodeModule(module, encoding, fixtureBase.targets)),
  });
  const former = rewriteManifest(intact, 1, (text) => text);
  const expected = versionOf(intact);

  test(`${name}: bit flips, cuts, insertions and lengths`, () => {
    const codes = new Map<string, number>();
    for (let seed = 0; seed < mutationsPerCodec; seed++) {
      const file = seed % 4 < 2 ? intact : former; // both versions of the format
      const code = verdict(mutate(file, seed), `seed ${seed}`, (version) => version === expected);
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    assert.ok(codes.size >= 3, `only ${[...codes.keys()]}`);
  });

  test(`${name}: manifests with a number or a character changed, under a right checksum`, () => {
    let refused = 0;
    for (let seed = 0; seed < mutationsPerCodec; seed++) {
      // These may well be another valid adapter; what is asked is that nothing but a refusal or one happens.
      const code = verdict(mutateManifest(intact, seed), `seed ${seed}`, () => true);
      if (code !== "read") refused++;
    }
    assert.ok(refused > mutationsPerCodec / 2, `${refused}`);
  });
}

/** The code of the refusal, or "read". */
function verdict(bytes: Uint8Array, where: string, isAllowed: (version: string) => boolean): string {
  const before = process.memoryUsage().arrayBuffers;
  try {
    assert.ok(isAllowed(versionOf(bytes)), `${where}: another adapter`);
    return "read";
  } catch (error) {
    if (!(error instanceof AdapterError)) throw new Error(where, { cause: error });
    return error.code;
  } finally {
    const grown = process.memoryUsage().arrayBuffers - before;
    assert.ok(grown < 64 << 20, `${where}: ${grown} bytes`);
  }
}

function versionOf(bytes: Uint8Array): string {
  return hashAdapter(readContainer(memorySource(bytes), fixtureBase).adapter, fixtureBase.fingerprint);
}

function mutate(intact: Uint8Array, seed: number): Uint8Array {
  const bytes = Buffer.from(intact);
  const draw = (index: number, limit: number) => Math.floor(randomAt(seed, index) * limit);
  // The header and the manifest are small, so they get half of the damage.
  const at = seed % 2 === 0 ? draw(0, 20 + bytes.readUInt32LE(12)) : draw(0, bytes.length);
  switch (draw(1, 5)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return Buffer.concat([
        bytes.subarray(0, at),
        Buffer.alloc(1 + draw(2, 100), draw(3, 256)),
        bytes.subarray(at),
      ]);
    case 2:
      bytes.writeUInt32LE(draw(2, 2 ** 32), 8 + 4 * draw(3, 3));
      return bytes;
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + draw(2, 100))]);
    default:
      bytes[at]! ^= 1 << draw(2, 8);
      return bytes;
  }
}

/** In both versions of the format by turns. */
function mutateManifest(intact: Uint8Array, seed: number): Uint8Array {
  return rewriteManifest(intact, seed % 2 === 0 ? 1 : 2, (text) => {
    const numbers = [...text.matchAll(/(?<=[:[,])\d+/g)];
    const chosen = numbers[Math.floor(randomAt(seed, 0) * numbers.length)]!;
    const values = [
      "0",
      "-1",
      "1e99",
      "4294967295",
      "1.5",
      "null",
      `${Number(chosen[0]) + 1}`,
      '"x"',
      "[]",
      "{}",
    ];
    const cut = Math.floor(randomAt(seed, 2) * text.length);
    return seed % 3 === 0
      ? `${text.slice(0, cut)}${text.slice(cut + 1)}`
      : `${text.slice(0, chosen.index)}${values[seed % values.length]}${text.slice(chosen.index + chosen[0].length)}`;
  });
}
