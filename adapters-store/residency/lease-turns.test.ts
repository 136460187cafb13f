import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { bars, type Claim, compareTurns, type Sharing, shareBytes, waitsForOwn } from "./lease-turns.ts";

const sharing: Sharing = { shareBytes: 10, overdueFromMs: 100 };
const within: Claim = { heldBytes: 4, addedBytes: 6, turnMs: 200 };
const above: Claim = { heldBytes: 0, addedBytes: 11, turnMs: 150 };

test("there is always a share for one more", () => {
  for (const owners of [0, 1, 2, 7])
    assert.ok(owners * shareBytes(24, owners) + shareBytes(24, owners) <= 24);
  assert.equal(shareBytes(24, 0), 24);
});

test("an owner above its share waits for its own, unless it holds nothing", () => {
  assert.equal(waitsForOwn(within, sharing), false);
  assert.equal(waitsForOwn({ ...within, addedBytes: 7 }, sharing), true);
  assert.equal(waitsForOwn({ ...within, heldBytes: 11, addedBytes: 0 }, sharing), true);
  assert.equal(waitsForOwn(above, sharing), false);
});

test("who needs more than its share lets others pass until it is overdue, and then nobody", () => {
  assert.equal(bars(above, within, sharing), false);
  assert.equal(bars(within, above, sharing), true);
  const overdue = { ...above, turnMs: 99 };
  assert.equal(bars(overdue, within, sharing), true);
  assert.equal(bars(overdue, above, sharing), true);
  assert.equal(bars(within, overdue, sharing), false);
  assert.equal(bars(overdue, { ...within, turnMs: 98 }, sharing), false); // its turn came before
});

test("two within their shares never keep each other waiting", () => {
  assert.equal(bars(within, { ...within, turnMs: 300 }, sharing), false);
});

test("turns are in one order, and nobody is barred by a later one", () => {
  const bytes = fc.integer({ min: 0, max: 12 });
  const claim = fc.record({ heldBytes: bytes, addedBytes: bytes, turnMs: fc.integer({ min: 0, max: 200 }) });
  fc.assert(
    fc.property(fc.array(claim, { minLength: 2, maxLength: 6 }), (claims) => {
      const [first, ...others] = claims.toSorted((a, b) => compareTurns(a, b, sharing));
      for (const other of others) {
        assert.ok(compareTurns(first!, other, sharing) <= 0);
        assert.equal(bars(other, first!, sharing), false);
      }
    }),
  );
});
