import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { expOfNegative } from "./exponential.ts";

test("it is Math.exp, but for less than a float32 shows", () => {
  fc.assert(
    fc.property(fc.double({ min: -110, max: 0, noNaN: true }), (x) => {
      const expected = Math.exp(x);
      assert.ok(Math.abs(expOfNegative(x) - expected) <= 2e-12 * expected, `${x}`);
    }),
  );
});

test("the most likely has 1, the impossible 0", () => {
  assert.equal(expOfNegative(0), 1);
  for (const x of [Number.NEGATIVE_INFINITY, Number.NaN, -1000]) assert.equal(expOfNegative(x), 0);
});
