// The partition against every possible one, and the learned costs against the machine that made the times.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cheapestCapacities, planCapacities, stepMs } from "./row-groups.ts";
import { RunCost } from "./row-groups-cost.ts";

const capacities = [128, 192, 256, 512, 1024, 2048];
const cost = fc.record({
  runMs: fc.integer({ min: 1, max: 30 }),
  tokenMs: fc.constantFrom(0.001, 0.002, 0.02),
});

test("no assignment of rows to capacities is cheaper", () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...capacities), { minLength: 1, maxLength: 5 }),
      cost,
      (least, one) => {
        const found = cheapestCapacities(least, one);
        assert.ok(found.every((capacity, row) => capacity >= least[row]!));
        const best = Math.min(...assignments(least).map((assignment) => stepMs(assignment, one)));
        assert.ok(Math.abs(stepMs(found, one) - best) < 1e-9);
      },
    ),
    { seed: 1, numRuns: 300 },
  );
});

function assignments(least: readonly number[]): number[][] {
  return least.reduce<number[][]>(
    (all, own) =>
      all.flatMap((one) =>
        capacities.filter((capacity) => capacity >= own).map((capacity) => [...one, capacity]),
      ),
    [[]],
  );
}

const rows = (capacity: number, least: number, count: number) =>
  Array.from({ length: count }, () => ({ capacity, least, length: least - 20 }));
const machine = { runMs: 10, tokenMs: 0.002 };

test("short rows run apart from one long row, and beside a slightly longer one", () => {
  const apart = planCapacities([...rows(128, 128, 15), ...rows(2048, 2048, 1)], machine);
  assert.deepEqual([...new Set(apart)], [128, 2048]);
  const together = planCapacities([...rows(128, 128, 15), ...rows(192, 192, 1)], machine);
  assert.deepEqual([...new Set(together)], [192]);
});

test("rows come back down once that pays for the copy, and stay where it does not", () => {
  assert.deepEqual([...new Set(planCapacities(rows(512, 128, 8), machine))], [128]);
  assert.deepEqual([...new Set(planCapacities(rows(1024, 1024, 8), machine))], [1024]);
  const near = rows(192, 128, 8).map((row) => ({ ...row, length: 127 }));
  assert.deepEqual([...new Set(planCapacities(near, { ...machine, runMs: 0 }))], [128]);
  const barely = [...rows(256, 192, 1), ...rows(256, 256, 1)].map((row) => ({ ...row, length: 1024 }));
  assert.deepEqual(planCapacities(barely, { runMs: 0.1, tokenMs: 0.002 }), [256, 256]);
});

test("learns what a run, a row and a token cost, whatever scale the first run had", () => {
  const bytesPerToken = 46_080;
  for (const [runMs, rowMs, tokenMs] of [
    [8, 2, 0.0025],
    [30, 1, 0.002],
    [6, 3, 0.0045],
  ] as const) {
    const learned = new RunCost(bytesPerToken);
    assert.equal(new RunCost(bytesPerToken).current, null);
    for (let run = 0; run < 300; run++) {
      const count = 1 + ((run * 7) % 16);
      const tokens = count * capacities[(run * 5) % capacities.length]!;
      const noise = 1 + 0.1 * Math.sin(run * 12.9898);
      learned.observe({ rows: count, tokens, ms: (runMs + rowMs * count + tokenMs * tokens) * noise });
    }
    const { current } = learned;
    for (const [found, real] of [
      [current!.runMs, runMs],
      [current!.rowMs, rowMs],
      [current!.tokenMs, tokenMs],
    ] as const) {
      assert.ok(found > real * 0.75 && found < real * 1.25, `${found} for ${real}`);
    }
  }
});
