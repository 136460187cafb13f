import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { CheckpointError } from "../errors.ts";
import { openSafetensors } from "./safetensors.ts";
import { tensorOf, writeSafetensors } from "./write-safetensors.ts";

const directory = mkdtempSync(join(tmpdir(), "cotenant-safetensors-"));
const path = join(directory, "model.safetensors");
after(() => rmSync(directory, { recursive: true }));

test("reads back what was written, in every readable type", () => {
  const values = Float32Array.of(1, -2, 0.5, 0, 65_504, -1.5);
  const halves = Uint16Array.of(0x3c00, 0xc000, 0x3800, 0x0000, 0x7bff, 0xbe00);
  const brains = Uint16Array.of(0x3f80, 0xc000, 0x3f00, 0x0000, 0x4780, 0xbfc0);
  writeSafetensors(path, [
    tensorOf("single", [2, 3], values),
    { name: "half", dtype: "F16", shape: [3, 2], pieces: () => [halves.subarray(0, 2), halves.subarray(2)] },
    tensorOf("brain", [6], brains),
    tensorOf("scalar", [], Float32Array.of(7)),
    tensorOf("empty", [0, 4], new Float32Array(0)),
  ]);
  using file = openSafetensors(path);
  assert.deepEqual([...file.tensors.keys()].sort(), ["brain", "empty", "half", "scalar", "single"]);
  assert.deepEqual(file.tensors.get("half")?.shape, [3, 2]);
  assert.equal(file.metadata.format, "pt");
  assert.deepEqual(file.readFloat32("single"), values);
  assert.deepEqual(file.readFloat32("half"), values);
  assert.deepEqual([...file.readFloat32("brain")], [1, -2, 0.5, 0, 65_536, -1.5]);
  assert.deepEqual([...file.readFloat32("scalar")], [7]);
  assert.equal(file.readFloat32("empty").length, 0);
  assert.deepEqual([...file.readFloat32Rows("half", 1, 2)], [0.5, 0, 65_504, -1.5]);
  assert.deepEqual([...file.readFloat32Rows("single", 1, 1)], [0, 65_504, -1.5]);
  assert.deepEqual(file.readRaw("half"), new Uint8Array(halves.buffer));
  assert.throws(() => file.readFloat32Rows("half", 2, 2), RangeError);
});

test("widens tensors of more than one piece", () => {
  const words = Uint16Array.from({ length: 700_001 }, (_, i) => i % 0x7f00);
  writeSafetensors(path, [tensorOf("w", [words.length], words)]);
  using file = openSafetensors(path);
  const bits = new Uint32Array(file.readFloat32("w").buffer);
  assert.ok(bits.every((word, i) => word === words[i]! << 16));
});

const entry = (dtype: string, shape: unknown, offsets: unknown) => ({ dtype, shape, data_offsets: offsets });
const f32 = (shape: number[], begin: number, end: number) => entry("F32", shape, [begin, end]);

const refusals: [what: string, code: string, header: unknown, dataBytes?: number][] = [
  ["an unknown type", "safetensors_bad_dtype", { w: entry("F12", [2], [0, 8]) }],
  ["a type named like a method", "safetensors_bad_dtype", { w: entry("toString", [2], [0, 8]) }],
  ["a negative size", "safetensors_bad_shape", { w: f32([-2], 0, 8) }],
  ["a fractional size", "safetensors_bad_shape", { w: f32([0.5, 4], 0, 8) }],
  ["a shape that is no list", "safetensors_bad_shape", { w: entry("F32", "2", [0, 8]) }],
  ["a shape of other size than the bytes", "safetensors_bad_shape", { w: f32([3], 0, 8) }],
  ["a shape whose product overflows", "safetensors_bad_shape", { w: f32([2 ** 31, 2 ** 31, 4], 0, 8) }],
  ["three offsets", "safetensors_bad_offsets", { w: entry("F32", [2], [0, 8, 16]) }],
  ["offsets in the wrong order", "safetensors_bad_offsets", { w: f32([2], 8, 0) }],
  ["offsets beyond the file", "safetensors_truncated", { w: f32([4], 0, 16) }],
  ["overlapping tensors", "safetensors_overlap", { v: f32([1], 0, 4), w: f32([2], 0, 8) }],
  ["a hole at the beginning", "safetensors_hole", { w: f32([1], 4, 8) }],
  ["a hole in the middle", "safetensors_hole", { v: f32([1], 0, 4), w: f32([1], 8, 12) }, 12],
  ["bytes after the last tensor", "safetensors_trailing_bytes", { w: f32([1], 0, 4) }],
  ["a tensor that is no object", "safetensors_malformed", { w: 3 }],
  ["metadata that are no strings", "safetensors_malformed", { __metadata__: { a: 1 }, w: f32([2], 0, 8) }],
  ["a header that is no object", "safetensors_malformed", []],
];

for (const [what, code, header, dataBytes = 8] of refusals) {
  test(`refuses ${what}`, () => {
    writeRaw(JSON.stringify(header), dataBytes);
    const namesTensor =
      typeof header === "object" && header !== null && "w" in header && !("__metadata__" in header);
    assertRefused(code, namesTensor ? /"w"/ : /./);
  });
}

test("refuses duplicate names, also escaped ones and those inside of a tensor", () => {
  const w = JSON.stringify(f32([2], 0, 8));
  writeRaw(`{"w":${w},"w":${w}}`, 8);
  assertRefused("safetensors_duplicate_key", /"w" twice/);
  writeRaw(`{"w":${w},"\\u0077":${w}}`, 8);
  assertRefused("safetensors_duplicate_key", /"w" twice/);
  writeRaw(`{"w":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}`, 8);
  assertRefused("safetensors_duplicate_key", /"shape" twice/);
});

test("refuses damaged headers and cut files", () => {
  writeFileSync(path, "1234");
  assertRefused("safetensors_malformed");
  writeRaw("{not json", 0);
  assertRefused("safetensors_malformed");
  writeFileSync(path, Buffer.concat([length(2), Buffer.of(0xff, 0xfe)]));
  assertRefused("safetensors_malformed");
  writeFileSync(path, Buffer.concat([length(1000), Buffer.from("{}")]));
  assertRefused("safetensors_truncated");
  writeFileSync(path, Buffer.concat([length(2 ** 60), Buffer.from("{}")]));
  assertRefused("safetensors_header_too_large");
  writeSafetensors(path, [tensorOf("w", [4], new Float32Array(4))]);
  truncateSync(path, 100);
  assertRefused("safetensors_truncated", /"w"/);
});

test("a file that shrinks while it is open is refused, not padded", () => {
  writeSafetensors(path, [tensorOf("w", [4], new Float32Array(4))]);
  using file = openSafetensors(path);
  truncateSync(path, 80);
  assert.throws(() => file.readFloat32("w"), { code: "safetensors_truncated" });
});

test("refuses to read integers as floats, absent tensors and absent files", () => {
  writeRaw(JSON.stringify({ ids: entry("I64", [1], [0, 8]) }), 8);
  using file = openSafetensors(path);
  assert.equal(file.readRaw("ids").length, 8);
  assert.throws(() => file.readFloat32("ids"), {
    code: "safetensors_unreadable_dtype",
    message: /"ids" is I64/,
  });
  assert.throws(() => file.readFloat32("w"), { code: "missing_tensor", message: /"w"/ });
  assert.throws(() => openSafetensors(join(directory, "absent")), { code: "checkpoint_unreadable" });
  assert.throws(() => openSafetensors(directory), { code: "checkpoint_unreadable" });
});

test("errors name the file as the caller wants it shown, and stay short", () => {
  writeRaw(JSON.stringify({ ["w".repeat(10_000)]: 1 }), 0);
  assert.throws(
    () => openSafetensors(path, "adapter_model.safetensors"),
    (error) =>
      error instanceof CheckpointError &&
      error.message.startsWith("adapter_model.safetensors: ") &&
      error.message.length < 400,
  );
});

function writeRaw(header: string, dataBytes: number): void {
  writeFileSync(
    path,
    Buffer.concat([length(Buffer.byteLength(header)), Buffer.from(header), Buffer.alloc(dataBytes)]),
  );
}

function length(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function assertRefused(code: string, message: RegExp = /./): void {
  assert.throws(
    () => openSafetensors(path),
    (error) => {
      assert.ok(error instanceof CheckpointError, String(error));
      assert.equal(error.code, code, error.message);
      assert.match(error.message, message);
      assert.ok(error.message.includes(path), "names the file");
      return true;
    },
  );
}
