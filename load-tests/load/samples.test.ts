import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Samples } from "./samples.ts";

const values = fc.array(fc.double({ noNaN: true, min: -1e9, max: 1e9 }), { minLength: 1, maxLength: 60 });

function samplesOf(numbers: readonly number[]): Samples {
  const samples = new Samples();
  for (const number of numbers) samples.add(number);
  return samples;
}

test("merged samples have the quantiles of the whole, in any split and order", () => {
  fc.assert(
    fc.property(
      fc.array(values, { minLength: 1, maxLength: 6 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (parts, share) => {
        const merged = new Samples();
        for (const part of parts.toReversed()) {
          merged.merge(samplesOf(part));
          merged.quantile(share); // reading in between changes nothing
        }
        const whole = parts.flat();
        assert.equal(merged.count, whole.length);
        // By its definition: enough samples do not exceed it, and with any smaller sample they would be too few.
        const quantile = merged.quantile(share);
        const within = (limit: number) => whole.filter((value) => value <= limit).length / whole.length;
        assert.ok(whole.includes(quantile));
        assert.ok(within(quantile) >= share);
        for (const smaller of whole.filter((value) => value < quantile)) assert.ok(within(smaller) < share);
      },
    ),
  );
});

test("quantiles of known samples", () => {
  const hundred = samplesOf(Array.from({ length: 100 }, (_, index) => 100 - index));
  assert.deepEqual(hundred.quantiles(), { count: 100, mean: 50.5, p50: 50, p90: 90, p99: 99, max: 100 });
});

test("no samples have no quantiles, and say so", () => {
  const none = new Samples().quantiles();
  assert.equal(none.count, 0);
  assert.ok(Number.isNaN(none.p50) && Number.isNaN(none.mean) && Number.isNaN(none.max));
});
