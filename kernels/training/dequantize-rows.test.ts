// Widening against its slow twin, exactly, at widths that end inside a block.

import assert from "node:assert/strict";
import { test } from "node:test";
import { blocksPerRow, packedRowBytes, quantizeRows } from "../prepare/quantize-blocks.ts";
import { dequantizeRows as slowDequantizeRows } from "../reference/dequantize-blocks.ts";
import { randomAt } from "../sampling/random.ts";
import { dequantizeRows } from "./dequantize-rows.ts";

for (const bits of [4, 8] as const) {
  for (const columns of [1, 31, 32, 33, 96, 101]) {
    test(`${bits} bits, ${columns} columns`, () => {
      const rows = 5;
      const weights = Float32Array.from({ length: rows * columns }, (_, i) => randomAt(columns, i) - 0.5);
      const packed = new Uint8Array(rows * packedRowBytes(columns, bits));
      const scales = new Float32Array(rows * blocksPerRow(columns));
      quantizeRows(weights, columns, bits, { packed, scales });
      const out = new Float32Array(rows * columns);
      dequantizeRows({ packed, scales, bits }, columns, out);
      assert.deepEqual(out, Float32Array.from(slowDequantizeRows({ packed, scales }, columns, bits)));
    });
  }
}
