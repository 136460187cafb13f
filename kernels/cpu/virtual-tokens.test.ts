// Soft prompts, prefixes and embedding changes against the slow forward pass, alone and beside other rows; and the
// second sequence of an adapter, whose virtual tokens are not computed again, against its first, to the bit.

import assert from "node:assert/strict";
import { test } from "node:test";
import { goldenCase, openGolden, temporaryCache } from "../../tests/golden/golden-case.ts";
import { openReference } from "../../tests/golden/reference-model.ts";
import type { AdapterModule, DecodedAdapter } from "../adapter.ts";
import type { BaseModel } from "../base-model.ts";
import { referenceForward } from "../reference/forward.ts";
import { tolerances } from "../reference/tolerances.ts";
import { randomAt } from "../sampling/random.ts";
import { CpuRunner } from "./cpu-runner.ts";

const cacheDirectory = temporaryCache();
const softTokens = 5;
const prefixTokens = 7;

function values(count: number, seed: number, size: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: count }, (_, index) => (randomAt(seed, index) - 0.5) * size);
}

const softPrompt = ({ config }: BaseModel, tokens = softTokens): AdapterModule => ({
  kind: "soft-prompt",
  tokens,
  hidden: values(tokens * config.hiddenSize, 1, 2),
});

const prefixes = ({ config }: BaseModel): AdapterModule[] =>
  Array.from({ length: config.layers }, (_, layer) => ({
    kind: "prefix",
    layer,
    tokens: prefixTokens,
    keys: values(prefixTokens * config.kvHeads * config.headDim, 10 + layer, 3),
    values: values(prefixTokens * config.kvHeads * config.headDim, 20 + layer, 3),
  }));

const embedding = ({ config }: BaseModel): AdapterModule => ({
  kind: "embedding",
  rank: 3,
  a: values(config.vocabSize * 3, 30, 1),
  b: values(3 * config.hiddenSize, 31, 1),
});

const lowRank = ({ config }: BaseModel): AdapterModule => ({
  kind: "low-rank",
  layer: 0,
  projection: "v",
  rank: 2,
  a: values(2 * config.hiddenSize, 40, 0.3),
  b: values(2 * config.kvHeads * config.headDim, 41, 0.3),
});

const adaptersOf = (base: BaseModel): Record<string, DecodedAdapter> => ({
  "soft prompt": { modules: [softPrompt(base)] },
  prefix: { modules: prefixes(base) },
  embedding: { modules: [embedding(base)] },
  "all of them": { modules: [...prefixes(base), softPrompt(base), embedding(base), lowRank(base)] },
});
const virtualTokens: Readonly<Record<string, number>> = {
  "soft prompt": softTokens,
  prefix: prefixTokens,
  embedding: 0,
  "all of them": softTokens + prefixTokens,
};

for (const name of ["llama", "gemma3", "qwen2-sliding"]) {
  test(`${name}: virtual tokens and embedding changes as in the slow forward pass`, async () => {
    const golden = goldenCase(name);
    const { base } = await openGolden(golden, { cacheDirectory });
    using reference = openReference(golden.directory);
    const runner = new CpuRunner(base, { maxRows: 5, maxContext: 128 });
    const adapters = adaptersOf(base);
    for (const [version, adapter] of Object.entries(adapters)) runner.addAdapter(version, adapter);
    const versions = [null, ...Object.keys(adapters)];
    const tokenIds = golden.prompts.flat().slice(0, 17);
    const expected = versions.map((version) =>
      referenceForward(reference, tokenIds, version === null ? null : adapters[version]!),
    );
    for (let round = 0; round < 2; round++) {
      for (const [row, version] of versions.entries()) {
        assert.equal(runner.virtualTokens(version), version === null ? 0 : virtualTokens[version]);
        runner.open(`${row}`, { adapterVersion: version, prefix: null });
        for (const [from, to] of [
          [0, 9],
          [9, 12],
        ] as const) {
          const chunk = { sequence: `${row}`, tokenIds: tokenIds.slice(from, to), promptLength: 12 };
          const { data } = await runner.prefill({ ...chunk, logits: "all" });
          assertClose(data, expected[row]!.slice(from, to).flat(), `${version}, chunk from ${from}`);
        }
      }
      for (const [step, tokenId] of tokenIds.slice(12).entries()) {
        const { data } = await runner.decode(versions.map((_, row) => ({ sequence: `${row}`, tokenId })));
        assertClose(
          data,
          expected.flatMap((logits) => logits[12 + step]!),
          `step ${step}`,
        );
      }
      assert.equal(
        runner.stats().kvTokensUsed,
        versions.length * 17 + Object.values(virtualTokens).reduce((sum, count) => sum + count),
      );
      for (const row of versions.keys()) runner.close(`${row}`);
    }
  });
}

/** Ten times the bound of forward.test.ts: the golden models' hidden states are larger than of order one. */
function assertClose(found: Float32Array, expected: readonly number[], what: string): void {
  assert.equal(found.length, expected.length);
  const worst = found.reduce((max, value, index) => Math.max(max, Math.abs(value - expected[index]!)), 0);
  assert.ok(worst <= tolerances.forwardLogits * 10, `${what}: ${worst}`);
}

test("a soft prompt of the base's own embeddings is those tokens, and its values are kept for the next row", async () => {
  const { base } = await openGolden(goldenCase("llama"), { cacheDirectory });
  const ids = Array.from({ length: 150 }, (_, index) => 5 + ((index * 7) % 90)); // two chunks
  const hidden = new Float32Array(ids.length * base.config.hiddenSize);
  base.embeddings.lookup(ids, hidden);
  const runner = new CpuRunner(base, { maxRows: 4, maxContext: 512, maxPrefixBytes: 1 << 26 });
  runner.addAdapter("soft", { modules: [{ kind: "soft-prompt", tokens: ids.length, hidden }] });
  const rest = Array.from({ length: 140 }, (_, index) => 9 + ((index * 11) % 80));

  runner.open("tokens", { adapterVersion: null, prefix: null });
  const wanted: Float32Array[] = [];
  for (const [at, tokenIds] of [
    ids.slice(0, 128),
    ids.slice(128),
    rest.slice(0, 128),
    rest.slice(128),
  ].entries()) {
    const chunk = { sequence: "tokens", tokenIds, promptLength: 290 };
    wanted[at] = (await runner.prefill({ ...chunk, logits: "last" })).data.slice();
  }
  for (const [id, cached] of [
    ["first", 0],
    ["second", 128],
  ] as const) {
    const { cachedTokens } = runner.open(id, {
      adapterVersion: "soft",
      prefix: { scope: "t", tokenIds: rest },
    });
    assert.equal(cachedTokens, cached);
    let last = new Float32Array(0);
    for (let at = cachedTokens; at < rest.length; at += 128) {
      const chunk = { sequence: id, tokenIds: rest.slice(at, at + 128), promptLength: rest.length };
      last = (await runner.prefill({ ...chunk, logits: "last" })).data.slice();
    }
    assert.deepEqual(last, wanted.at(-1), id);
  }
  assert.equal(runner.stats().kvTokensUsed, 3 * 290);
});

test("an adapter without a prefix in some layer is refused", async () => {
  const { base } = await openGolden(goldenCase("llama"), { cacheDirectory });
  const runner = new CpuRunner(base, { maxRows: 1, maxContext: 128 });
  assert.throws(() => runner.addAdapter("partial", { modules: prefixes(base).slice(1) }), RangeError);
  assert.equal(runner.hasAdapter("partial"), false);
});
