// Probes against transformers + PEFT, for every family, and what they must leave as it is.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  allGoldenCases,
  distance,
  type GoldenCase,
  goldenAdapter,
  goldenCase,
  openGolden,
  temporaryCache,
} from "../../tests/golden/golden-case.ts";
import type { DecodedAdapter } from "../adapter.ts";
import type { BaseModel } from "../base-model.ts";
import { CpuProbes } from "./probes.ts";

const cacheDirectory = temporaryCache();
const names = [null, "wide", "narrow"] as const;
const tolerance = 1e-4; // of log-probabilities, as the goldens' own tests have it

function adaptersOf(golden: GoldenCase, base: BaseModel): DecodedAdapter[] {
  return names.map((name) => (name === null ? { modules: [] } : goldenAdapter(golden, name, base)));
}

/** Of every token but the prompts' first ones, prompts one after another. */
async function probe(golden: GoldenCase, base: BaseModel, options: ProbeOptions = {}) {
  const { adapters = adaptersOf(golden, base), unitTokens = 1000 } = options;
  const sequences = golden.prompts.map((tokenIds) => ({
    tokenIds,
    scored: tokenIds.map((_, at) => at).slice(1),
  }));
  const scores = await scoresOf(new CpuProbes(base), sequences, { adapters, unitTokens });
  return scores.map(({ logprobs }) => logprobs);
}

async function scoresOf(...[probes, ...asked]: [CpuProbes, ...Parameters<CpuProbes["scores"]>]) {
  const units = probes.scores(...asked);
  for (let next = units.next(); ; next = units.next()) {
    if (next.done === true) return next.value;
    await next.value.run();
  }
}

type ProbeOptions = { readonly adapters?: readonly DecodedAdapter[]; readonly unitTokens?: number };

function expected({ runs }: GoldenCase): number[][] {
  return names.map((name) =>
    runs.filter(({ adapter }) => adapter === name).flatMap((run) => run.tokenLogprobs.slice(1) as number[]),
  );
}

for (const golden of allGoldenCases()) {
  test(`${golden.name}: the base and two adapters side by side, in units of any length`, async () => {
    const { base, runner } = await openGolden(golden, { cacheDirectory });
    const whole = await probe(golden, base);
    for (const [row, reference] of expected(golden).entries()) {
      assert.ok(distance(whole[row]!, reference) < tolerance, `${names[row]}`);
    }
    for (const unitTokens of [1, 15, 50]) {
      const cut = await probe(golden, base, { unitTokens });
      for (const [row, logprobs] of cut.entries()) assert.ok(distance(logprobs, whole[row]!) < tolerance);
    }
    await runner.dispose();
  });
}

test("the same bits again, also once the graph offers other kinds of adapters", async () => {
  const golden = goldenCase("qwen3");
  for (const encoding of ["float32", "int8", "int4"] as const) {
    const { base, runner } = await openGolden(golden, { cacheDirectory, encoding });
    const first = await probe(golden, base, { unitTokens: 24 });
    assert.deepEqual(await probe(golden, base, { unitTokens: 24 }), first);
    await base.offer(new Set(["scale", "sparse", "head"]));
    assert.deepEqual(await probe(golden, base, { unitTokens: 24 }), first);
    await runner.dispose();
  }
});

test("a row's log-probabilities do not depend on its neighbour's adapter", async () => {
  const golden = goldenCase("llama");
  const { base, runner } = await openGolden(golden, { cacheDirectory });
  const [plain, wide, narrow] = adaptersOf(golden, base);
  const [, beside] = await probe(golden, base, { adapters: [narrow!, wide!], unitTokens: 20 });
  const overflowing = {
    modules: narrow!.modules.map((module) =>
      module.kind === "low-rank" ? { ...module, b: module.b.map(() => Number.POSITIVE_INFINITY) } : module,
    ),
  };
  const [spoilt, sound] = await probe(golden, base, { adapters: [overflowing, wide!], unitTokens: 20 });
  assert.ok(spoilt!.some((logprob) => !Number.isFinite(logprob)));
  assert.deepEqual(sound, beside);
  const [alone] = await probe(golden, base, { adapters: [plain!], unitTokens: 10 });
  const [withOther] = await probe(golden, base, { adapters: [plain!, narrow!], unitTokens: 20 });
  assert.deepEqual(alone, withOther);
  await runner.dispose();
});

test("what transformers would draw is a hit, and any other token is none", async () => {
  const golden = goldenCase("qwen3");
  const { base, runner } = await openGolden(golden, { cacheDirectory });
  const [plain, ...adapted] = adaptersOf(golden, base);
  for (const [row, adapter] of [plain!, ...adapted].entries()) {
    const runs = golden.runs.filter((run) => run.adapter === names[row]);
    const drawn = runs.map(({ prompt, greedy }) => ({
      tokenIds: [...golden.prompts[prompt]!, ...greedy],
      scored: greedy.map((_, at) => golden.prompts[prompt]!.length + at),
    }));
    const others = drawn.map(({ tokenIds, scored }) => ({
      tokenIds: tokenIds.with(scored[0]!, (tokenIds[scored[0]!]! + 1) % base.config.vocabSize),
      scored: scored.slice(0, 1),
    }));
    const hitsOf = async (sequences: typeof drawn) => {
      const [scores] = await scoresOf(new CpuProbes(base), sequences, {
        adapters: [adapter],
        unitTokens: 20,
      });
      return [...scores!.hits];
    };
    assert.deepEqual(new Set(await hitsOf(drawn)), new Set([1]));
    assert.deepEqual(new Set(await hitsOf(others)), new Set([0]));
  }
  await runner.dispose();
});
