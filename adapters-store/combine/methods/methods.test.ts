// Every method against its definition, written out on dense matrices.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  addAll,
  assertChanges,
  change,
  distance,
  fullRank,
  merge,
  ofMatrices,
  pairs,
  part,
  places,
  weightAt,
  weighted,
} from "../../../tests/merge-fixture.ts";
import { jacobiSvd } from "../matrix/jacobi-svd.ts";
import { isAt, type MatrixPlace } from "../matrix-place.ts";

test("linear and concatenation are the exact sum; so is svd at full rank", () => {
  assert.ok(pairs.length > 12);
  for (const parts of pairs) {
    const sum = (place: MatrixPlace) => addAll(weighted(parts, place));
    for (const options of [
      { method: "linear" },
      { method: "concatenation" },
      { method: "svd", parameters: { rank: fullRank } },
    ] as const) {
      const { adapter, report } = merge(parts, options);
      assertChanges(adapter, sum);
      assert.ok(report.errors.toSum.total < 1e-6, `${options.method} ${report.errors.toSum.total}`);
    }
  }
});

test("linear needs no more ranks than the sum has", () => {
  const [first] = ofMatrices; // rank 1 and more
  const parts = [part(first!, 0.5), part(first!, 0.25)];
  const joined = merge(parts, { method: "concatenation" }).report.ranks;
  const { ranks } = merge(parts, { method: "linear" }).report;
  assert.deepEqual(ranks.before, joined.before);
  assert.equal(joined.after!.max, 2 * joined.before[0]!.max);
  assert.equal(ranks.after!.min, joined.before[0]!.min);
  assert.ok(ranks.after!.max <= Math.min(8, joined.before[0]!.max));
});

test("svd is the nearest change of that rank, and the report says how near", () => {
  for (const parts of pairs) {
    const { adapter, report } = merge(parts, { method: "svd", parameters: { rank: 3 } });
    let [error, norm] = [0, 0];
    for (const place of places) {
      const sum = addAll(weighted(parts, place));
      const rest = jacobiSvd(sum, place.rows).values.subarray(3);
      const found = distance(change(adapter, place), sum);
      assert.ok(Math.abs(found - Math.hypot(...rest)) <= 1e-5 * (1 + Math.hypot(...sum)));
      error += found ** 2;
      norm += Math.hypot(...sum) ** 2;
    }
    assert.ok(Math.abs(report.errors.toSum.total - Math.sqrt(error / norm)) < 1e-5);
    assert.deepEqual(report.errors.toTarget, report.errors.toSum);
    assert.ok(report.ranks.after!.max <= 3);
  }
});

test("ties: trim, elect, mean of those that agree", () => {
  for (const parts of pairs) {
    const density = 0.3;
    const { adapter } = merge(parts, { method: "ties", parameters: { rank: fullRank, density } });
    assertChanges(adapter, (place) => {
      const trimmed = parts.map(({ adapter: one }, index) => {
        const own = change(one, place);
        const kept = new Set(largestFirst(own).slice(0, Math.floor(density * own.length)));
        const weight = weightAt(parts[index]!, place);
        return own.map((value, at) => (kept.has(at) ? value * weight : 0));
      });
      return addAll(trimmed).map((total, at) => {
        const agreeing = trimmed
          .map((one) => one[at]!)
          .filter((value) => Math.sign(value) === (total < 0 ? -1 : 1));
        return agreeing.length === 0 ? 0 : agreeing.reduce((sum, value) => sum + value, 0) / agreeing.length;
      });
    });
  }
});

test("breadcrumbs: neither the largest nor the smallest", () => {
  for (const parts of pairs) {
    const options = {
      method: "breadcrumbs",
      parameters: { rank: fullRank, density: 0.4, outliers: 0.1 },
    } as const;
    assertChanges(merge(parts, options).adapter, (place) =>
      addAll(
        parts.map((each) => {
          const own = change(each.adapter, place);
          const dropped = Math.floor(0.1 * own.length);
          const kept = new Set(largestFirst(own).slice(dropped, dropped + Math.floor(0.4 * own.length)));
          return own.map((value, at) => (kept.has(at) ? value * weightAt(each, place) : 0));
        }),
      ),
    );
  }
});

/** Rounded as the product rounds them, so that equal ones stay equal; of those the first. */
function largestFirst(values: Float64Array): number[] {
  const sizes = Float32Array.from(values, Math.abs);
  return Array.from(values.keys()).sort((one, other) => sizes[other]! - sizes[one]! || one - other);
}

test("dare: each entry is dropped or enlarged, at the rate and by the seed; its mean is the sum", () => {
  const adapter = ofMatrices[1]!;
  const density = 0.25;
  const seeds = Array.from({ length: 200 }, (_, seed) => seed);
  const place = places.find((each) => adapter.modules.some((module) => isAt(module, each)))!;
  const own = change(adapter, place);
  const drawn = seeds.map((seed) =>
    change(
      merge([part(adapter, 1)], { method: "dare_linear", parameters: { rank: fullRank, density, seed } })
        .adapter,
      place,
    ),
  );
  let kept = 0;
  for (const [at, value] of own.entries()) {
    const draws = drawn.map((one) => one[at]! / value);
    for (const draw of draws) assert.ok(Math.abs(draw) < 1e-2 || Math.abs(draw - 4) < 1e-2, `${draw}`);
    const rate = draws.filter((draw) => draw > 1).length / seeds.length;
    assert.ok(Math.abs(rate - density) < 0.15, `${rate}`); // five deviations
    kept += rate / own.length;
  }
  assert.ok(Math.abs(kept - density) < 0.02, `${kept}`);
  assert.notDeepEqual(drawn[0], drawn[1]);
  const again = merge([part(adapter, 1)], {
    method: "dare_linear",
    parameters: { rank: fullRank, density, seed: 0 },
  });
  assert.deepEqual(change(again.adapter, place), drawn[0]);
});

test("dare keeps other entries of each adapter and matrix", () => {
  const same = [ofMatrices[1]!, { modules: [...ofMatrices[1]!.modules] }];
  const options = { method: "dare_linear", parameters: { rank: fullRank, density: 0.5, seed: 7 } } as const;
  const { adapter } = merge(
    same.map((one) => part(one, 1)),
    options,
  );
  const place = places.find((each) => adapter.modules.some((module) => isAt(module, each)))!;
  const [own, found] = [change(same[0]!, place), change(adapter, place)];
  const factors = new Set(own.map((value, at) => Math.round(found[at]! / value)));
  assert.deepEqual([...factors].sort(), [0, 2, 4]); // dropped by both, by one, by none
});

test("dare_ties is ties with dare's dropping: at density 1 both drop nothing", () => {
  const parts = pairs[0]!;
  const [dare, ties] = [
    merge(parts, { method: "dare_ties", parameters: { rank: fullRank, density: 1 } }),
    merge(parts, { method: "ties", parameters: { rank: fullRank, density: 1 } }),
  ];
  assert.deepEqual(dare.adapter, ties.adapter);
  const half = merge(parts, { method: "dare_ties", parameters: { rank: fullRank, density: 0.5 } });
  assert.notDeepEqual(half.adapter, ties.adapter);
});
