import assert from "node:assert/strict";
import { test } from "node:test";
import { type CompressionFields, compressionOptions, uploadCompression } from "./compression-fields.ts";

test("fields become the options of compression", () => {
  const cases: readonly [CompressionFields, object | null][] = [
    [{}, null],
    [{ method: "int8" }, { method: "int8" }],
    [
      { method: "int4", group_size: 16 },
      { method: "int4", groupSize: 16 },
    ],
    [
      { method: "compeft", density: 0.1 },
      { method: "compeft", density: 0.1 },
    ],
    [
      { method: "compeft", density: 0.1, alpha: 2 },
      { method: "compeft", density: 0.1, alpha: 2 },
    ],
    [
      { method: "sparse", density: 0.1 },
      { method: "sparse", density: 0.1 },
    ],
    [
      { method: "skillpack", target_ratio: 8 },
      { method: "skillpack", targetRatio: 8 },
    ],
    [{ target_ratio: 8 }, { targetRatio: 8 }],
  ];
  for (const [fields, options] of cases) assert.deepEqual(compressionOptions(fields), options);
});

test("fields that mean nothing together are refused by name", () => {
  const cases: readonly [CompressionFields, string][] = [
    [{ density: 0.1 }, "density"],
    [{ method: "int8", density: 0.1 }, "density"],
    [{ method: "int8", target_ratio: 2 }, "target_ratio"],
    [{ method: "compeft" }, "density"],
    [{ method: "skillpack" }, "target_ratio"],
    [{ method: "sparse", density: 0.1, alpha: 1 }, "alpha"],
  ];
  for (const [fields, param] of cases) assert.throws(() => compressionOptions(fields), { param });
});

test("an upload names a method, or writes the fields as JSON", () => {
  assert.deepEqual(uploadCompression("int8"), { method: "int8" });
  assert.deepEqual(uploadCompression(' {"target_ratio": 4}'), { targetRatio: 4 });
  assert.throws(() => uploadCompression("zip"), { param: "compress.method" });
  assert.throws(() => uploadCompression('{"method": "int8", "speed": 1}'), { param: "compress.speed" });
  assert.throws(() => uploadCompression("{}"), { param: "compress" });
  assert.throws(() => uploadCompression('{"method"'), { code: "malformed_json" });
});
