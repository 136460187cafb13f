import assert from "node:assert/strict";
import { test } from "node:test";
import type { AdapterModule, LowRankModule } from "./adapter.ts";
import { amplification, assertBounded, rowNorms } from "./adapter-bounds.ts";

const place = { layer: 3, projection: "down" } as const;
const floats = (...values: number[]) => Float32Array.from(values);

function module(a: readonly number[], b: readonly number[], rank: number): LowRankModule {
  return { kind: "low-rank", ...place, rank, a: floats(...a), b: floats(...b) };
}

test("the bound is reached by the worst input", () => {
  // y0 = 2 (x0 - 3 x1) + 5 (4 x0), largest at x = (1, -1): 8 + 20; y1 = -1 (x0 - 3 x1) + 0, largest 4
  assert.equal(amplification(rowNorms(floats(1, -3, 4, 0), 2), floats(2, -1, 5, 0)), 28);
});

test("an adapter that could overflow is refused with its module", () => {
  assert.doesNotThrow(() => assertBounded({ modules: [module([1, 1], [1, 1], 1)] }));
  assert.throws(() => assertBounded({ modules: [module([1e3, 1], [1e3, 1], 1)] }), {
    code: "adapter_values_too_large",
    message: /layer 3, down: the adapter can enlarge its input 1\.0e\+6/,
  });
});

test("so is one whose ranks overflow although its outputs cannot", () => {
  assert.throws(() => assertBounded({ modules: [module([3e37, 3e37], [1e-35, 1e-35], 1)] }), {
    code: "adapter_values_too_large",
    message: /a row of A sums to/,
  });
});

const tooLarge: readonly AdapterModule[] = [
  { kind: "channels", ...place, channels: Uint32Array.of(0), b: floats(1, -1e6) },
  { kind: "sparse", ...place, indices: Uint32Array.of(0), values: floats(-1e6) },
  { kind: "scale", ...place, scale: floats(1, -1e4), shift: null },
  { kind: "scale", ...place, scale: floats(1, 1), shift: floats(0, 1e6) },
  { kind: "scale", ...place, scale: floats(1, Number.NaN), shift: null },
  { kind: "head", rank: 1, a: floats(1e3), b: floats(1e3) },
  { kind: "embedding", rank: 2, a: floats(1, 1, -1e3, 1), b: floats(1e3, 0, 0, 0) },
  { kind: "soft-prompt", tokens: 1, hidden: floats(Number.POSITIVE_INFINITY) },
  { kind: "prefix", layer: 0, tokens: 1, keys: floats(1), values: floats(1e6) },
];

for (const [index, each] of tooLarge.entries()) {
  test(`${each.kind} (${index}) that is too large is refused`, () => {
    assert.throws(() => assertBounded({ modules: [each] }), { code: "adapter_values_too_large" });
  });
}
