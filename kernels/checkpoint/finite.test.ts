import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { findNonFinite } from "./finite.ts";

test("the first value that is not finite is found wherever it stands, and nothing else is", () => {
  const value = fc.oneof(
    { weight: 20, arbitrary: fc.float() },
    { weight: 1, arbitrary: fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY) },
    { weight: 1, arbitrary: fc.constantFrom(3.4028234663852886e38, -3.4028234663852886e38, -0) },
  );
  fc.assert(
    fc.property(fc.array(value, { maxLength: 40 }), fc.nat(3), (values, skipped) => {
      const data = Float32Array.from(values);
      const part = data.subarray(skipped); // a view that does not begin its buffer
      const expected = [...part].findIndex((each) => !Number.isFinite(each));
      assert.equal(findNonFinite(part), expected);
    }),
    { numRuns: 500 },
  );
});
