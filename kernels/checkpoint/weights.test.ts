import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { openCheckpointWeights } from "./weights.ts";
import { tensorOf, writeSafetensors } from "./write-safetensors.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "cotenant-weights-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const a = tensorOf("a", [2, 2], Float32Array.of(1, 2, 3, 4));
const b = tensorOf("b", [3], Float32Array.of(5, 6, 7));

test("one file and its shards read the same", () => {
  write("model.safetensors", a, b);
  const whole = readAll();
  rmSync(join(directory, "model.safetensors"));
  write("model-00001-of-00002.safetensors", a);
  write("model-00002-of-00002.safetensors", b);
  writeIndex({ a: "model-00001-of-00002.safetensors", b: "model-00002-of-00002.safetensors" });
  assert.deepEqual(readAll(), whole);
});

test("require names a missing tensor, and both shapes of a wrong one", () => {
  write("model.safetensors", a);
  using weights = openCheckpointWeights(directory);
  assert.deepEqual(weights.require("a", [2, 2]).dtype, "F32");
  assert.throws(() => weights.require("c", [1]), { code: "missing_tensor", message: /"c"/ });
  assert.throws(() => weights.require("a", [4]), { code: "wrong_shape", message: /"a" is \[2,2\].*\[4\]/ });
});

test("refuses values that are not finite, naming the tensor", () => {
  for (const bad of [NaN, Infinity, -Infinity]) {
    write("model.safetensors", tensorOf("w", [3, 1], Float32Array.of(1, 2, bad)));
    using weights = openCheckpointWeights(directory);
    assert.deepEqual([...weights.readFloat32Rows("w", 0, 2)], [1, 2]);
    assert.throws(() => weights.readFloat32("w"), { code: "non_finite_weights", message: /"w"/ });
  }
});

test("refuses shards that do not belong together", () => {
  write("x.safetensors", a);
  writeIndex({ a: "x.safetensors", b: "y.safetensors" });
  assertRefused("missing_shard", /y\.safetensors/);
  write("y.safetensors", a, b);
  assertRefused("duplicate_tensor", /"a"/);
  write("y.safetensors", tensorOf("c", [0], new Float32Array(0)));
  assertRefused("missing_tensor", /"b"/);
});

test("refuses a damaged index and one that reaches out of its directory", () => {
  for (const file of ["../x.safetensors", "/etc/passwd", "x.bin", 3]) {
    writeIndex({ a: file });
    assertRefused("bad_shard_index", /"a"/);
  }
  for (const text of ["{", "{}", '{"weight_map":{}}', "null", '{"weight_map":{"a":"x","a":"y"}}']) {
    writeFileSync(join(directory, "model.safetensors.index.json"), text);
    assertRefused("bad_shard_index");
  }
});

test("refuses a pickle with the way to convert it, and an empty directory", () => {
  assertRefused("missing_weights", /directory of a Hugging Face checkpoint/);
  writeFileSync(join(directory, "pytorch_model.bin"), "");
  assertRefused("missing_weights", /pytorch_model\.bin is a pickle.*safe_serialization/);
});

function write(fileName: string, ...tensors: Parameters<typeof writeSafetensors>[1]): void {
  writeSafetensors(join(directory, fileName), tensors);
}

function writeIndex(weightMap: Record<string, unknown>): void {
  writeFileSync(join(directory, "model.safetensors.index.json"), JSON.stringify({ weight_map: weightMap }));
}

function readAll(): Record<string, Float32Array> {
  using weights = openCheckpointWeights(directory);
  const names = [...weights.tensors.keys()].sort();
  return Object.fromEntries(names.map((name) => [name, weights.readFloat32(name)]));
}

function assertRefused(code: string, message: RegExp = /./): void {
  assert.throws(() => openCheckpointWeights(directory), { code, message });
}
