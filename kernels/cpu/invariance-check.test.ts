import assert from "node:assert/strict";
import { test } from "node:test";
import { goldenCase, openGolden, temporaryCache } from "../../tests/golden/golden-case.ts";
import { adapterTargets } from "../model-family.ts";
import { checkInvariance } from "./invariance-check.ts";

test("kernels that depend on the batch are found out, and the runner is left empty", async () => {
  const { base, runner } = await openGolden(goldenCase("llama"), {
    cacheDirectory: temporaryCache(),
    maxRows: 6,
  });
  const { vocabSize } = base.config;
  const model = { targets: adapterTargets(base.config), vocabSize };
  const decode = runner.decode.bind(runner);
  runner.decode = async (entries) => {
    const logits = await decode(entries);
    if (entries.length === 6) logits.data[vocabSize * 2 + 7]! += 1e-6; // one bit of the third row, only in company
    return logits;
  };
  await assert.rejects(checkInvariance(runner, model), { code: "batch_invariance_unavailable" });
  await runner.dispose();
});

test("a runner whose rows do not depend on the batch passes", async () => {
  const { base, runner } = await openGolden(goldenCase("llama"), {
    cacheDirectory: temporaryCache(),
    maxRows: 6,
  });
  const decode = runner.decode.bind(runner);
  runner.decode = async (entries) => {
    // One row at a time: true on every processor.
    const rows: Float32Array[] = [];
    for (const entry of entries) rows.push((await decode([entry])).data.slice());
    const data = Float32Array.from(rows.flatMap((row) => [...row]));
    return { count: entries.length, vocabSize: base.config.vocabSize, data };
  };
  await checkInvariance(runner, { targets: adapterTargets(base.config), vocabSize: base.config.vocabSize });
  assert.equal(runner.stats().kvTokensUsed, 0);
  assert.ok(!runner.hasAdapter("invariance-1"));
  await runner.dispose();
});
