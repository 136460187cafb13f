import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { argmax, logSumExp, maximum, topIndices } from "./logprobs.ts";

const values = fc.array(fc.integer({ min: -4, max: 4 }), { minLength: 1, maxLength: 70 }); // many ties

test("topIndices is a stable sort cut off, -Infinity included", () => {
  const withInfinity = fc.array(fc.oneof(fc.integer({ min: -3, max: 3 }), fc.constant(-Infinity)), {
    maxLength: 30,
  });
  fc.assert(
    fc.property(withInfinity, fc.nat(35), (list, count) => {
      const expected = [...list.keys()].sort((a, b) => (list[a] === list[b] ? a - b : list[b]! - list[a]!));
      assert.deepEqual(topIndices(Float32Array.from(list), count), expected.slice(0, count));
    }),
    { seed: 1, numRuns: 2000 },
  );
});

test("argmax is the first of the largest", () => {
  fc.assert(
    fc.property(values, (list) => {
      const array = Float32Array.from(list);
      assert.equal(maximum(array), Math.max(...list));
      assert.equal(argmax(array), list.indexOf(Math.max(...list)));
    }),
    { seed: 1 },
  );
});

test("what does not compare is never the largest", () => {
  const { NaN: nan, NEGATIVE_INFINITY: least } = Number;
  for (const length of [1, 7, 8, 9, 40]) {
    const row = new Float32Array(length).fill(nan);
    assert.deepEqual([argmax(row), maximum(row)], [0, least]);
    row[length - 1] = -3;
    assert.deepEqual([argmax(row), maximum(row)], [length - 1, -3]);
  }
  assert.deepEqual([argmax(Float32Array.of(least, least)), maximum(new Float32Array(0))], [0, least]);
});

test("logSumExp neither overflows nor loses what is small", () => {
  assert.equal(logSumExp(Float32Array.of(1000, 1000)), 1000 + Math.log(2));
  assert.equal(logSumExp(Float32Array.of(-1000, -1000)), -1000 + Math.log(2));
  assert.equal(logSumExp(Float32Array.of(0, Number.NEGATIVE_INFINITY)), 0);
});
