import assert from "node:assert/strict";
import { test } from "node:test";
import type { LowRankModule } from "./adapter.ts";
import { amplification, assertBounded } from "./adapter-bounds.ts";

function module(a: readonly number[], b: readonly number[], rank: number): LowRankModule {
  return {
    kind: "low-rank",
    layer: 3,
    projection: "down",
    rank,
    a: Float32Array.from(a),
    b: Float32Array.from(b),
  };
}

test("the bound is reached by the worst input", () => {
  // y0 = 2 (x0 - 3 x1) + 5 (4 x0), largest at x = (1, -1): 8 + 20; y1 = -1 (x0 - 3 x1) + 0, largest 4
  assert.equal(amplification(module([1, -3, 4, 0], [2, -1, 5, 0], 2)), 28);
});

test("an adapter that could overflow is refused with its module", () => {
  assert.doesNotThrow(() => assertBounded({ modules: [module([1, 1], [1, 1], 1)] }));
  assert.throws(() => assertBounded({ modules: [module([1e3, 1], [1e3, 1], 1)] }), {
    code: "adapter_values_too_large",
    message: /layer 3, down/,
  });
});

test("large between the products is refused too, however small the product", () => {
  assert.throws(() => assertBounded({ modules: [module([3e37, 3e37], [1e-35, 1e-35], 1)] }), {
    code: "adapter_values_too_large",
    message: /row of A/,
  });
});
