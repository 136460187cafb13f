// The golden cases of tests/parity.test.ts on WebGPU, with shorter texts and one case for each family and each kind
// of rotary scaling that shapes the inputs: on a software adapter a step takes most of a second.

import { test } from "node:test";
import { goldenCase, temporaryCache } from "../golden/golden-case.ts";
import { ParitySuite } from "../golden/parity-suite.ts";
import { openWebgpuGolden } from "./open-golden.ts";

const cacheDirectory = temporaryCache();

/** Base, wide and narrow on different prompts; the last two share the adapter of the first two. */
const batch = [2, 4, 6, 5, 7];

/** Tokens of a prompt's chunk: some prompts take two, and none so many that the first text ends meanwhile. */
const cases = {
  llama: 16,
  gemma3: 16,
  "phi3-partial-rotary": 16,
  "qwen2-sliding": 16,
  qwen3: 16,
  "llama-rope-dynamic": 32,
};

for (const [name, chunkTokens] of Object.entries(cases)) {
  test(name, async (t) => {
    const golden = goldenCase(name);
    const runner = await openWebgpuGolden(golden, { cacheDirectory });
    const suite = new ParitySuite(runner, golden, { ownTolerance: 2e-4, chunkTokens, greedyTokens: 12 });
    await t.test("alone", () => suite.checkAlone(golden.runs.at(-1)!));
    await t.test("in a batch", () => suite.checkBatch(batch.map((run) => golden.runs[run]!)));
    await runner.dispose();
  });
}
