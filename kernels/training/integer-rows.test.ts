// Codes against the values that they stand for.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type RowMatrix, rowCoding } from "./integer-rows.ts";

const side = fc.integer({ min: 1, max: 140 });
const matrices = fc.record({ rows: side, columns: side }).chain(({ rows, columns }) =>
  fc.record({
    shape: fc.constant({ rows, columns }),
    weights: fc
      .array(fc.float({ noNaN: true, min: -100, max: 100 }), {
        minLength: rows * columns,
        maxLength: rows * columns,
      })
      .map((values) => Float32Array.from(values)),
  }),
);

test("each value is half a step away at most, and the largest of an output is the last level", () => {
  fc.assert(
    fc.property(matrices, ({ shape, weights }) => {
      const { codes, scales } = rowCoding.rows(weights, shape) as RowMatrix;
      for (const [at, value] of weights.entries()) {
        const row = Math.floor(at / shape.columns);
        const scale = scales[row]!;
        const decoded = codes[(at % shape.columns) * shape.rows + row]! * scale;
        assert.ok(Math.abs(decoded - value) <= scale * 0.5001 + 1e-37, `${decoded} for ${value}`);
        assert.ok(Math.abs(value) <= scale * 127.001 + 1e-37);
      }
    }),
    { numRuns: 30 },
  );
});

test("coded columns are the coded rows of the transposed matrix", () => {
  fc.assert(
    fc.property(matrices, ({ shape: { rows, columns }, weights }) => {
      const transposed = weights.map((_, at) => weights[(at % rows) * columns + Math.floor(at / rows)]!);
      assert.deepEqual(
        rowCoding.columns(weights, { rows, columns }),
        rowCoding.rows(transposed, { rows: columns, columns: rows }),
      );
    }),
    { numRuns: 30 },
  );
});

test("zeros are zeros", () => {
  const { codes, scales } = rowCoding.rows(new Float32Array(130), { rows: 2, columns: 65 }) as RowMatrix;
  assert.ok(codes.every((code) => code === 0) && scales.every((scale) => scale === 0));
});
