import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { SparseModule } from "./adapter.ts";
import { cutIntoSegments, segmentWidth } from "./sparse-segments.ts";

test("the segments hold every entry once, each at its output and input", () => {
  const matrix = fc
    .record({ inWidth: fc.integer({ min: 1, max: 70 }), out: fc.integer({ min: 1, max: 6 }) })
    .chain(({ inWidth, out }) =>
      fc.record({
        inWidth: fc.constant(inWidth),
        out: fc.constant(out),
        indices: fc.uniqueArray(fc.nat(inWidth * out - 1), { minLength: 1, maxLength: inWidth * out }),
      }),
    );
  fc.assert(
    fc.property(matrix, fc.nat(5), ({ inWidth, out, indices }, firstOutput) => {
      const sorted = Uint32Array.from(indices).sort();
      const values = Float32Array.from(sorted, (index) => index + 1);
      const module: SparseModule = { kind: "sparse", layer: 0, projection: "q", indices: sorted, values };
      const segments = cutIntoSegments([{ module, firstOutput }], inWidth);
      const found = new Float32Array(inWidth * out);
      for (const [segment, output] of segments.outputs.entries()) {
        for (let i = segment * segmentWidth; i < (segment + 1) * segmentWidth; i++) {
          const at = (output - firstOutput) * inWidth + segments.columns[i]!;
          found[at] = found[at]! + segments.values[i]!;
        }
      }
      const expected = new Float32Array(inWidth * out);
      for (const index of sorted) expected[index] = index + 1;
      assert.deepEqual(found, expected);
      // No more segments than the outputs' entries need.
      const perOutput = Map.groupBy(sorted, (index) => Math.floor(index / inWidth));
      const needed = [...perOutput.values()].reduce(
        (sum, entries) => sum + Math.ceil(entries.length / segmentWidth),
        0,
      );
      assert.equal(segments.outputs.length, needed);
    }),
    { seed: 1 },
  );
});
