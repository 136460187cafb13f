import assert from "node:assert/strict";
import { test } from "node:test";
import {
  distance,
  goldenAdapter,
  goldenCase,
  openGolden,
  temporaryCache,
} from "../../tests/golden/golden-case.ts";
import type { ForwardProbes } from "../forward-probes.ts";
import { KernelProbes } from "./kernel-probes.ts";
import { TrainingKernel } from "./training-kernel.ts";

test("base and adapters have the log-probabilities that transformers gives them", async () => {
  for (const name of ["qwen3", "gemma3"]) {
    const golden = goldenCase(name);
    const { base, runner } = await openGolden(golden, { cacheDirectory: temporaryCache() });
    const kernel = await TrainingKernel.open(base, { threads: 1 });
    const names = [null, "wide", "narrow"];
    const adapters = names.map((adapter) =>
      adapter === null ? { modules: [] } : goldenAdapter(golden, adapter, base),
    );
    const sequences = golden.prompts.map((tokenIds) => ({
      tokenIds,
      scored: tokenIds.map((_, at) => at).slice(1),
    }));
    const probes: ForwardProbes = new KernelProbes(kernel);
    const units = probes.scores(sequences, { adapters, unitTokens: 20 });
    let next = units.next();
    for (; next.done !== true; next = units.next()) {
      assert.ok(next.value.tokens <= 20);
      await next.value.run();
    }
    for (const [row, { logprobs }] of next.value.entries()) {
      const runs = golden.runs.filter(({ adapter }) => adapter === names[row]);
      const expected = runs.flatMap(({ tokenLogprobs }) => tokenLogprobs.slice(1) as number[]);
      assert.ok(distance(logprobs, expected) < 1e-4, `${name}, ${names[row]}`);
    }
    await kernel.close();
    await runner.dispose();
  }
});
