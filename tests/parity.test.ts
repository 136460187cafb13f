// Every golden case against Hugging Face transformers + PEFT: the base and both adapters, alone and in one batch,
// prompts whole and in chunks. The issue asks for 1e-3; what float32 reaches here is held to `ownTolerance`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { modelFamilies } from "../kernels/models/index.ts";
import { allGoldenCases, openGolden, temporaryCache } from "./golden/golden-case.ts";
import { ParitySuite } from "./golden/parity-suite.ts";

const ownTolerance = 2e-4;
const chunkTokens = 7;

const cases = allGoldenCases();
const cacheDirectory = temporaryCache();

test("every model family has a golden case", () => {
  const tested = new Set(cases.map(({ modelType }) => modelType));
  assert.deepEqual([...tested].sort(), Object.keys(modelFamilies).sort());
});

for (const golden of cases) {
  test(golden.name, async (t) => {
    const { runner } = await openGolden(golden, { cacheDirectory, maxRows: golden.runs.length });
    const suite = new ParitySuite(runner, golden, { ownTolerance, chunkTokens });
    await t.test("alone", async () => {
      for (const run of golden.runs) await suite.checkAlone(run);
    });
    await t.test(`prompts in chunks of ${chunkTokens}`, async () => {
      for (const run of golden.runs) await suite.checkChunked(run);
    });
    await t.test("in a batch", () => suite.checkBatch());
    await runner.dispose();
  });
}
