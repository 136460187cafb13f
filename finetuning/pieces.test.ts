import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { atOnce, inUnits, type Pieces } from "./pieces.ts";

test("units are as short as the pieces allow, do the work in order, and nothing is done between two", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(9)), fc.integer({ min: 1, max: 20 }), async (sizes, unitSize) => {
      const done: number[] = [];
      const work = function* (): Pieces<number> {
        for (const size of sizes) {
          done.push(size);
          yield size;
        }
        return sizes.length;
      };
      const units = inUnits(work(), unitSize);
      let next = units.next();
      while (!next.done) {
        const before = done.length;
        await next.value.run();
        const own = done.slice(before);
        next = units.next();
        assert.equal(done.length, before + own.length);
        const withoutLast = own.slice(0, -1).reduce((sum, size) => sum + size, 0);
        assert.ok(withoutLast < unitSize);
        const isFull = withoutLast + (own.at(-1) ?? 0) >= unitSize;
        assert.ok(isFull || next.done);
      }
      assert.equal(next.value, sizes.length);
      assert.deepEqual(done, sizes);
      assert.equal(atOnce(work()), sizes.length);
    }),
  );
});
