// Model directories that are damaged in one place are refused with the name of the tensor, before anything is
// served; and whatever bytes a safetensors file holds, reading it gives tensors or a CheckpointError.

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { openBaseModel } from "../kernels/base-model.ts";
import { openSafetensors } from "../kernels/checkpoint/safetensors.ts";
import { tensorOf, writeSafetensors } from "../kernels/checkpoint/write-safetensors.ts";
import { CheckpointError } from "../kernels/errors.ts";
import { makeModel } from "../scripts/make-model.ts";
import { modelShapes } from "../scripts/model-shapes.ts";

const fuzzSeed = 20_261_121;
const fuzzRounds = 2_000;

const root = mkdtempSync(join(tmpdir(), "cotenant-bad-"));
const whole = join(root, "whole");
const spoilt = join(root, "spoilt");
const weightsPath = join(spoilt, "model.safetensors");
const victim = "model.layers.2.mlp.up_proj.weight";

before(() => makeModel({ shape: modelShapes.tiny, directory: whole, seed: 1 }));
beforeEach(() => {
  rmSync(spoilt, { recursive: true, force: true });
  cpSync(whole, spoilt, { recursive: true });
});
after(() => rmSync(root, { recursive: true }));

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

test("a truncated file", async () => {
  const { byteOffset, byteLength } = openAndFind(victim);
  truncateSync(weightsPath, byteOffset + byteLength - 1);
  await assertRefused("safetensors_truncated", victim);
});

test("an oversized header", async () => {
  const bytes = readFileSync(weightsPath);
  bytes.writeBigUInt64LE(2n ** 40n);
  writeFileSync(weightsPath, bytes);
  await assertRefused("safetensors_header_too_large", "1099511627776");
});

test("overlapping offsets", async () => {
  editHeader((header) => {
    const [begin, end] = header[victim]!.data_offsets;
    header[victim]!.data_offsets = [begin - 2, end - 2];
  });
  await assertRefused("safetensors_overlap", victim);
});

test("a shape that does not fit the config", async () => {
  editHeader((header) => header[victim]!.shape.reverse());
  await assertRefused("wrong_shape", victim);
});

test("a missing tensor", async () => {
  editHeader((header) => {
    header["model.layers.2.mlp.up_proj.renamed"] = header[victim]!;
    delete header[victim];
  });
  await assertRefused("missing_tensor", victim);
});

for (const [what, word] of [
  ["NaN", 0x7fc0],
  ["infinity", 0xff80],
] as const) {
  for (const name of [victim, "model.embed_tokens.weight", "model.norm.weight"]) {
    test(`${what} as the last value of ${name}`, async () => {
      const { byteOffset, byteLength } = openAndFind(name);
      const bytes = readFileSync(weightsPath);
      bytes.writeUInt16LE(word, byteOffset + byteLength - 2);
      writeFileSync(weightsPath, bytes);
      await assertRefused("non_finite_weights", name);
    });
  }
}

test("a missing shard", async () => {
  rmSync(weightsPath);
  const index = { weight_map: { [victim]: "model-00001-of-00002.safetensors" } };
  writeFileSync(join(spoilt, "model.safetensors.index.json"), JSON.stringify(index));
  await assertRefused("missing_shard", "model-00001-of-00002.safetensors");
});

test(`${fuzzRounds} mutations of a valid file (seed ${fuzzSeed}) give tensors or a CheckpointError`, () => {
  const path = join(root, "fuzzed.safetensors");
  writeSafetensors(path, [
    tensorOf("a", [3, 4], new Float32Array(12).fill(1)),
    tensorOf("b", [5], new Uint16Array(5).fill(0x3f80)),
    { name: "c", dtype: "F16", shape: [2, 2, 2], pieces: () => [new Uint16Array(8)] },
    tensorOf("d", [0], new Float32Array(0)),
  ]);
  const valid = readFileSync(path);
  const random = mulberry32(fuzzSeed);
  const outcomes = new Map<string, number>();
  for (let round = 0; round < fuzzRounds; round++) {
    writeFileSync(path, mutate(valid, random));
    const arraysBefore = process.memoryUsage().arrayBuffers;
    const outcome = readAll(path);
    const allocated = process.memoryUsage().arrayBuffers - arraysBefore;
    assert.ok(allocated < 64 << 20, `round ${round} allocated ${allocated} bytes for ${valid.length}`);
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  // The mutations must reach past the first check.
  assert.ok(outcomes.size > 8, JSON.stringify([...outcomes]));
});

/** "read", or the code of the refusal; anything else is thrown on. */
function readAll(path: string): string {
  try {
    using file = openSafetensors(path);
    for (const name of file.tensors.keys()) file.readFloat32(name);
    return "read";
  } catch (error) {
    if (error instanceof CheckpointError) return error.code;
    throw error;
  }
}

/** One to three changes: a byte, a cut, an insertion, a number or a word of the header. */
function mutate(valid: Buffer, random: () => number): Buffer {
  const below = (limit: number) => Math.floor(random() * limit);
  const pick = <T>(choices: readonly T[]): T => choices[below(choices.length)]!;
  const headerEnd = 8 + Number(valid.readBigUInt64LE());
  let bytes: Buffer = Buffer.from(valid);
  for (let change = below(3); change >= 0; change--) {
    const kind = below(6);
    if (bytes.length < 16) break;
    if (kind === 0) bytes[below(bytes.length)] = below(256);
    else if (kind === 1) bytes[below(Math.min(8, bytes.length))] = below(256);
    else if (kind === 2) bytes = bytes.subarray(0, below(bytes.length));
    else if (kind === 3) bytes = Buffer.concat([bytes, Buffer.alloc(below(9))]);
    else bytes = mutateHeader(bytes, Math.min(headerEnd, bytes.length), pick);
  }
  return bytes;
}

/** Replaces one number or word of the JSON, and restates the header's length. */
function mutateHeader(bytes: Buffer, headerEnd: number, pick: <T>(choices: readonly T[]) => T): Buffer {
  const header = bytes.subarray(8, headerEnd).toString("latin1");
  const tokens = [...header.matchAll(/\d+|"[^"]*"|[[\]{}:,]/g)];
  if (tokens.length === 0) return bytes;
  const token = pick(tokens);
  const replacements = [
    "-1",
    "0",
    "1",
    "4",
    "48",
    "1e9",
    "9007199254740991",
    "1e999",
    "null",
    "[]",
    "{}",
    "",
    "12",
  ];
  const words = [
    '"a"',
    '"b"',
    '"F32"',
    '"I64"',
    '"F16"',
    '"BOOL"',
    '"__proto__"',
    '"__metadata__"',
    '"\\ud800"',
  ];
  const replacement = pick([...replacements, ...words]);
  const edited = header.slice(0, token.index) + replacement + header.slice(token.index + token[0].length);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(edited.length));
  return Buffer.concat([length, Buffer.from(edited, "latin1"), bytes.subarray(headerEnd)]);
}

function openAndFind(name: string) {
  using file = openSafetensors(weightsPath);
  return file.tensors.get(name)!;
}

function editHeader(edit: (header: Header) => unknown): void {
  const bytes = readFileSync(weightsPath);
  const headerBytes = Number(bytes.readBigUInt64LE());
  const header: Header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString());
  edit(header);
  const edited = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(edited.length));
  writeFileSync(weightsPath, Buffer.concat([length, edited, bytes.subarray(8 + headerBytes)]));
}

async function assertRefused(code: string, named: string): Promise<void> {
  const opening = openBaseModel({
    modelDirectory: spoilt,
    cacheDirectory: join(root, "cache"),
    encoding: "float32",
    threads: 1,
    onProgress: () => {},
  });
  await assert.rejects(opening, (error) => {
    assert.ok(error instanceof CheckpointError, String(error));
    assert.equal(error.code, code, error.message);
    assert.ok(error.message.includes(named), error.message);
    return true;
  });
}

/** A seeded generator of [0, 1). */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
