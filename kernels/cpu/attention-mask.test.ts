// The masks against their definition: a query at position p sees key j if max(0, p - w + 1) <= j <= p.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fillDecodeMask, fillPrefillMask } from "./attention-mask.ts";

const window = fc.option(fc.integer({ min: 1, max: 20 }), { nil: null });
const hidden = Number.NEGATIVE_INFINITY;
const sees = (query: number, key: number, width: number | null) =>
  key <= query && (width === null || key > query - width);

test("decode: cached tokens, then padding, then the token itself", () => {
  const lengths = fc.array(fc.nat(16), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(lengths, window, (rows, width) => {
      const capacity = 16;
      const expected = rows.flatMap((length) => [
        ...Array.from({ length: capacity }, (_, key) =>
          key < length && sees(length, key, width) ? 0 : hidden,
        ),
        0,
      ]);
      assert.deepEqual([...fillDecodeMask({ lengths: rows, capacity, window: width })], expected);
    }),
    { seed: 1, numRuns: 500 },
  );
});

test("prefill: cached tokens, then the chunk; once per query head of a group unless it is one token", () => {
  fc.assert(
    fc.property(
      fc.nat(20),
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 1, max: 4 }),
      window,
      (past, count, groups, width) => {
        const once = Array.from({ length: count }, (_, query) =>
          Array.from({ length: past + count }, (__, key) => (sees(past + query, key, width) ? 0 : hidden)),
        ).flat();
        const expected = count === 1 ? once : Array(groups).fill(once).flat();
        assert.deepEqual([...fillPrefillMask({ past, count, groups, window: width })], expected);
      },
    ),
    { seed: 1, numRuns: 500 },
  );
});
