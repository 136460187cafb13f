import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { baseMemory } from "./base-memory.ts";
import { describeCheckpoint } from "./base-model.ts";
import { RawConfig } from "./model-config.ts";
import { familyOf } from "./models/index.ts";
import { planLayout } from "./prepare/layout.ts";

const modelDirectory = fileURLToPath(new URL("../models/tiny", import.meta.url));
const { config } = describeCheckpoint(modelDirectory);
const embeddingBytes = config.vocabSize * config.hiddenSize * 2; // the checkpoint is float16

for (const encoding of ["int4", "int8", "float16", "float32"] as const) {
  test(`${encoding} weights are planned from the data file that will be made of them`, () => {
    const path = join(modelDirectory, "config.json");
    const raw = new RawConfig(JSON.parse(readFileSync(path, "utf8")), path);
    const family = familyOf("llama");
    const layers = Array.from({ length: config.layers }, (_, index) => family.layer(config, index, raw));
    const layout = planLayout({ config, normOffset: family.normOffset, layers, encoding });
    const limits = { maxRows: 4, maxContext: 100 };
    const copies = (plainGraphBytes: number) => {
      const planned = baseMemory({ modelDirectory, config, encoding, ...limits, plainGraphBytes });
      return (planned.weightsBytes - embeddingBytes) / layout.sizeBytes;
    };
    const once = copies(0);
    assert.ok(once > 2.1 && once < 2.3, String(once)); // the file is padded, and has norms
    const twice = copies(layout.sizeBytes);
    assert.ok(twice > 3.3 && twice < 3.6, String(twice)); // with a session without adapters
  });
}

test("keys and values: each row's context in whole blocks of 64 tokens, for keys and for values of each layer", () => {
  const { rowKvBytes, kvBytes } = baseMemory({
    modelDirectory,
    config,
    encoding: "int8",
    maxRows: 5,
    maxContext: 65,
  });
  assert.equal(rowKvBytes, 128 * config.layers * 2 * config.kvHeads * config.headDim * 4);
  assert.equal(kvBytes, 5 * rowKvBytes);
});

test("more context and more rows never plan for less", () => {
  const work = (maxRows: number, maxContext: number) =>
    baseMemory({ modelDirectory, config, encoding: "int8", maxRows, maxContext }).workBytes;
  assert.ok(work(1, 1024) > work(1, 512));
  assert.ok(work(1024, 512) > work(1, 512));
});
