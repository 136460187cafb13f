// Codes against the values that they stand for, decoded by the slow reference.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { blockSize, blocksPerRow } from "../prepare/quantize-blocks.ts";
import { dequantizeRows } from "../reference/dequantize-blocks.ts";
import { type BlockMatrix, blockCoding } from "./integer-blocks.ts";

const codeRows = (...of: Parameters<typeof blockCoding.rows>) =>
  (blockCoding.rows(...of) as BlockMatrix).stored;
const codeColumns = (...of: Parameters<typeof blockCoding.rows>) =>
  (blockCoding.columns(...of) as BlockMatrix).stored;

const matrices = fc
  .record({ rows: fc.integer({ min: 1, max: 140 }), columns: fc.integer({ min: 1, max: 270 }) })
  .chain(({ rows, columns }) =>
    fc.record({
      rows: fc.constant(rows),
      columns: fc.constant(columns),
      weights: fc
        .array(fc.float({ noNaN: true, min: -100, max: 100 }), {
          minLength: rows * columns,
          maxLength: rows * columns,
        })
        .map((values) => Float32Array.from(values)),
    }),
  );

test("each value is half a step away at most, and the largest of a block is exact", () => {
  fc.assert(
    fc.property(matrices, ({ rows, columns, weights }) => {
      const coded = codeRows(weights, { rows, columns });
      const decoded = dequantizeRows(coded, columns, 8);
      for (const [at, value] of weights.entries()) {
        const block =
          Math.floor(at / columns) * blocksPerRow(columns) + Math.floor((at % columns) / blockSize);
        const scale = coded.scales[block]!;
        assert.ok(Math.abs(decoded[at]! - value) <= scale * 0.5001 + 1e-37, `${decoded[at]} for ${value}`);
        assert.ok(Math.abs(value) <= scale * 127.001 + 1e-37);
      }
    }),
    { numRuns: 30 },
  );
});

test("coded columns are the coded rows of the transposed matrix", () => {
  fc.assert(
    fc.property(matrices, ({ rows, columns, weights }) => {
      const transposed = weights.map((_, at) => weights[(at % rows) * columns + Math.floor(at / rows)]!);
      assert.deepEqual(
        codeColumns(weights, { rows, columns }),
        codeRows(transposed, { rows: columns, columns: rows }),
      );
    }),
    { numRuns: 30 },
  );
});

test("zeros are zeros, in what fills a block too", () => {
  const { packed, scales } = codeRows(new Float32Array(130), { rows: 1, columns: 130 });
  assert.ok(packed.every((code) => code === 128) && scales.every((scale) => scale === 0));
});
