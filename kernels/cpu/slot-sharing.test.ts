import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { keyOf } from "../held-copies.ts";
import { assignSlots } from "./slot-sharing.ts";

const version = fc.option(fc.constantFrom("a", "b", "c", "d", "e"), { nil: null });

test("every row with an adapter is read by exactly one copy of it, and no other row by any", () => {
  fc.assert(
    fc.property(fc.array(version, { maxLength: 40 }), (versions) => {
      const { readers, rowsPerSlot } = assignSlots(versions);
      const served = readers.flatMap(({ copy, rows }) => rows.map((row) => [row, copy.version] as const));
      const expected = versions.flatMap((one, row) => (one === null ? [] : [[row, one] as const]));
      assert.deepEqual(
        served.toSorted((a, b) => a[0] - b[0]),
        expected,
      );
      assert.equal(new Set(readers.map(({ copy }) => keyOf(copy))).size, readers.length);
      assert.ok(readers.every(({ rows }) => rows.length >= 1 && rows.length <= rowsPerSlot));
    }),
    { seed: 1, numRuns: 1000 },
  );
});

test("an adapter that all rows share is read once; rows apart have a copy each", () => {
  const rows = (...counts: number[]) =>
    counts.flatMap((count, index) => Array<string>(count).fill(`v${index}`));
  assert.equal(assignSlots([]).rowsPerSlot, 1);
  assert.equal(assignSlots([null, null, null, null]).rowsPerSlot, 1);
  assert.equal(assignSlots(rows(4)).rowsPerSlot, 4);
  assert.equal(assignSlots([...rows(4), null, null]).rowsPerSlot, 4);
  assert.equal(assignSlots(rows(2, 2, 2)).rowsPerSlot, 2);
  assert.equal(assignSlots(rows(1, 1, 1, 1)).rowsPerSlot, 1);
  assert.equal(assignSlots(rows(2, 1, 1, 1)).rowsPerSlot, 1, "three places of four would be read for nobody");
  assert.equal(assignSlots(rows(14, 1, 1)).readers.length < 14, true);
});
