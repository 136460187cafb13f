// The decompositions against known matrices and their definitions: orthonormal vectors, the matrix again, and no
// matrix of that rank nearer.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { normalValues } from "../../container/container-fixture.ts";
import { times, timesTransposed } from "./dense-products.ts";
import { denseSvd } from "./dense-svd.ts";
import { factoredNorm, factoredSvd, significantRank, truncated } from "./factored-svd.ts";
import { dot, type Factors, type Numbers, transposed, vectorAt } from "./factors.ts";
import { jacobiSvd } from "./jacobi-svd.ts";
import { orthonormalRows } from "./orthonormal-rows.ts";

const size = fc.integer({ min: 1, max: 9 });
const entries = (length: number) =>
  fc.array(fc.oneof(fc.float({ min: -3, max: 3, noNaN: true }), fc.constantFrom(0, 1, 1e-30, -1e5)), {
    minLength: length,
    maxLength: length,
  });
const matrices = fc
  .tuple(size, size)
  .chain(([rows, columns]) => fc.record({ rows: fc.constant(rows), values: entries(rows * columns) }));

/** leftᵀ diag(values) right, entry by entry. */
function product({ rank, left, right }: Factors, values: ArrayLike<number> | null = null): number[] {
  const [rows, columns] = [left.length / rank, right.length / rank];
  return Array.from({ length: rows * columns }, (_, at) => {
    let sum = 0;
    for (let i = 0; i < rank; i++) {
      sum +=
        left[i * rows + Math.floor(at / columns)]! *
        right[i * columns + (at % columns)]! *
        (values?.[i] ?? 1);
    }
    return sum;
  });
}

function assertNear(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  assert.equal(found.length, expected.length);
  const norm = Math.max(Math.sqrt(Array.from(expected).reduce((sum, x) => sum + x * x, 0)), 1e-300);
  for (let i = 0; i < found.length; i++) {
    assert.ok(Math.abs(found[i]! - expected[i]!) <= tolerance * norm, `${i}: ${found[i]} for ${expected[i]}`);
  }
}

/** All vectors, or those that are not zero where some may be. */
function assertOrthonormal(vectors: Numbers, count: number, mayBeZero: (index: number) => boolean): void {
  for (let i = 0; i < count; i++) {
    for (let j = 0; j <= i; j++) {
      const between = dot(vectorAt(vectors, i, count), vectorAt(vectors, j, count));
      if (i === j && mayBeZero(i) && between === 0) continue;
      assert.ok(Math.abs(between - (i === j ? 1 : 0)) < 1e-12, `${i}, ${j}: ${between}`);
    }
  }
}

test("QR: an orthonormal basis and a triangle that give the vectors again, dependent or not", () => {
  fc.assert(
    fc.property(matrices, fc.boolean(), ({ rows, values }, isDoubled) => {
      const vectors = Float64Array.from(isDoubled ? [...values, ...values.map((x) => -2 * x)] : values);
      const count = isDoubled ? 2 * rows : rows;
      const { basis, lower } = orthonormalRows(vectors, count);
      assertOrthonormal(basis, count, () => true);
      const upper = transposed64(lower, count);
      assertNear(product({ rank: count, left: upper, right: basis }), vectors, 1e-12);
      for (let i = 0; i < count; i++)
        for (let j = i + 1; j < count; j++) assert.equal(lower[i * count + j], 0);
      const independent = Array.from({ length: count }, (_, i) => lower[i * count + i]!).filter((x) => x > 0);
      assert.ok(independent.length <= Math.min(rows, vectors.length / count));
    }),
  );
});

function transposed64(matrix: Float64Array, rows: number): Float64Array {
  const columns = matrix.length / rows;
  return matrix.map((_, at) => matrix[(at % rows) * columns + Math.floor(at / rows)]!);
}

test("singular values of matrices where they are known", () => {
  const values = (matrix: number[], rows: number) => jacobiSvd(Float64Array.from(matrix), rows).values;
  assertNear(values([3, 0, 4, 5], 2), [Math.sqrt(45), Math.sqrt(5)], 1e-15);
  assertNear(values([0, 2, 0, 0, 0, 0, -7, 0, 0], 3), [7, 2, 0], 1e-15);
  assertNear(values([1, 2, 2, 4, 3, 6], 3), [Math.sqrt(70), 0, 0], 1e-14);
  const golden = (1 + Math.sqrt(5)) / 2;
  assertNear(values([1, 1, 0, 1], 2), [golden, 1 / golden], 1e-15);
  assertNear(values([1, 1, 1, 1e-9, 0, 0, 0, 1e-9, 0], 3).subarray(1), [1e-9, 1e-9 / Math.sqrt(3)], 0.3);
});

test("Jacobi: orthonormal vectors, descending values, the matrix again", () => {
  fc.assert(
    fc.property(matrices, ({ rows, values: matrix }) => {
      const svd = jacobiSvd(Float64Array.from(matrix), rows);
      assertOrthonormal(svd.left, rows, () => false);
      const largest = svd.values[0]!;
      const significant = svd.values.filter((value) => value > 1e-10 * largest).length;
      assertOrthonormal(
        svd.right.subarray(0, (significant * svd.right.length) / rows),
        significant,
        () => true,
      );
      assert.deepEqual(svd.values, svd.values.toSorted().reverse());
      assertNear(product(svd, svd.values), matrix, 1e-12);
    }),
  );
});

test("factors: the decomposition of their product, however many they are", () => {
  fc.assert(
    fc.property(fc.tuple(size, size, size, fc.nat()), ([rank, rows, columns, seed]) => {
      const factors = {
        rank,
        left: normalValues(seed, rank * rows),
        right: normalValues(seed + 1, rank * columns),
      };
      const matrix = product(factors);
      const svd = factoredSvd(factors);
      assertNear(product(svd, svd.values), matrix, 1e-12);
      const dense = jacobiSvd(Float64Array.from(matrix), rows).values;
      for (const [i, value] of svd.values.entries()) {
        assert.ok(Math.abs(value - (dense[i] ?? 0)) < 1e-10 * dense[0]!);
      }
      assert.ok(significantRank(svd.values, 1e-9) <= Math.min(rank, rows, columns));
      assert.ok(Math.abs(factoredNorm(factors) - Math.sqrt(dot(svd.values, svd.values))) < 1e-9 * dense[0]!);
      const kept = Math.max(1, rank - 1);
      const lost = matrix.map((x, i) => x - product(truncated(svd, kept))[i]!);
      assert.ok(Math.abs(Math.hypot(...lost) - Math.hypot(...svd.values.subarray(kept))) < 1e-10 * dense[0]!);
    }),
    { numRuns: 60 },
  );
});

test("significant rank: the least whose rest is within the tolerance", () => {
  const values = Float64Array.of(4, 3, 1e-3, 1e-9, 0);
  assert.deepEqual(
    [0, 1e-12, 1e-6, 1e-3, 0.6001, 1].map((tolerance) => significantRank(values, tolerance)),
    [4, 4, 3, 2, 1, 0],
  );
});

test("products with a dense matrix, at every remainder of the blocks", () => {
  for (const [count, rows, columns] of [
    [1, 1, 1],
    [3, 5, 7],
    [4, 8, 2],
    [9, 6, 11],
  ] as const) {
    const values = normalValues(1, rows * columns);
    const [wide, tall] = [normalValues(2, count * columns), normalValues(3, count * rows)].map((x) =>
      Float64Array.from(x),
    );
    const dense = { rows, columns, values };
    const byColumns = product({
      rank: columns,
      left: transposed(wide!, count),
      right: transposed(values, rows),
    });
    assertNear(timesTransposed(wide!, count, dense), byColumns, 1e-6);
    assertNear(
      times(tall!, count, dense),
      product({ rank: rows, left: transposed(tall!, count), right: values }),
      1e-6,
    );
  }
});

test("a dense matrix: exact where it has that rank, else within 2% of the least error", () => {
  const [rows, columns, rank] = [80, 70, 6];
  const signal = product({
    rank,
    left: normalValues(1, rank * rows),
    right: normalValues(2, rank * columns),
  });
  const errorOf = (values: Float32Array) => {
    const nearest = product(truncated(denseSvd({ rows, columns, values }, rank), rank));
    return Math.hypot(...nearest.map((x, i) => x - values[i]!));
  };
  assert.ok(errorOf(Float32Array.from(signal)) < 1e-5);
  for (const noise of [0.1, 1, 10]) {
    const values = normalValues(3, rows * columns, noise).map((x, i) => x + signal[i]!);
    const least = Math.hypot(...jacobiSvd(Float64Array.from(values), rows).values.subarray(rank));
    const error = errorOf(values);
    assert.ok(error >= least * (1 - 1e-9) && error < 1.02 * least, `${noise}: ${error} for ${least}`);
  }
});
