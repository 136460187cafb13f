import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { PreparedLayer, PreparedLayout, PreparedMatrix, PreparedVector } from "../prepare/layout.ts";
import { PreparedWeights } from "./prepared-weights.ts";

const [rows, columns] = [1203, 577]; // 2.6 MiB, cut at an odd place
const noBytes = { offset: 0, length: 0 };

const matrix = (offset: number): PreparedMatrix => ({
  name: "",
  rows,
  columns,
  encoding: "float32",
  sources: [],
  data: { offset, length: 4 * rows * columns },
  scales: noBytes,
});

const norm: PreparedVector = { name: "", length: columns, sources: [], offset: 0, data: noBytes };

/** Two layers of one matrix each, then the head; the value at each place is the place. */
async function withWeights(
  widenedBytes: number,
  run: (weights: PreparedWeights, path: string) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-weights-"));
  const path = join(directory, "weights.bin");
  writeFileSync(
    path,
    Float32Array.from({ length: 3 * rows * columns }, (_, place) => place),
  );
  const layer = (index: number) =>
    ({ qkv: matrix(4 * index * rows * columns), o: null }) as unknown as PreparedLayer;
  const layout: PreparedLayout = {
    layers: [layer(0), layer(1)],
    finalNorm: norm,
    head: matrix(8 * rows * columns),
    matrices: [],
    vectors: [],
    sizeBytes: 0,
  };
  const weights = new PreparedWeights(layout, path, widenedBytes);
  await run(weights, path);
  await weights.close();
  rmSync(directory, { recursive: true });
}

function assertPlaces(values: Float32Array, first: number): void {
  assert.ok(values.every((value, index) => value === first + index));
}

test("long and short reads give what the file holds, whether weights stay or not", async () => {
  for (const widenedBytes of [0, 3e6, 1e9]) {
    await withWeights(widenedBytes, async (weights) => {
      for (const index of [0, 1, 1, 0]) {
        const { qkv } = Object.fromEntries(await weights.layer(index)) as { qkv: Float32Array };
        assert.equal(qkv.length, rows * columns);
        assertPlaces(qkv, index * rows * columns);
      }
      for (const [first, count] of [
        [0, rows],
        [3, 7],
        [200, 901],
        [rows - 1, 1],
      ] as const) {
        const slice = await weights.headSlice(first, count);
        assert.equal(slice.rows.length, count * columns);
        assertPlaces(slice.rows, (2 * rows + first) * columns);
      }
    });
  }
});

test("what stays is not read again: layers first, then as much of the head as there is room for", async () => {
  const matrixBytes = 4 * rows * columns;
  await withWeights(2 * matrixBytes + 8 * columns, async (weights, path) => {
    const layers = [await weights.layer(0), await weights.layer(1)];
    const slices = [await weights.headSlice(0, 1), await weights.headSlice(1, 1)];
    await weights.headSlice(2, 1);
    writeFileSync(path, new Float32Array(3 * rows * columns));
    for (const index of [0, 1]) assert.equal(await weights.layer(index), layers[index]);
    for (const index of [0, 1])
      assertPlaces((await weights.headSlice(index, 1)).rows, (2 * rows + index) * columns);
    assert.deepEqual(
      slices.map(({ firstRow }) => firstRow),
      [0, 1],
    );
    await weights.headSlice(3, 1);
    assert.ok((await weights.headSlice(2, 1)).rows.every((value) => value === 0));
    weights.keepWidened(matrixBytes);
    assert.ok((await weights.headSlice(0, 1)).rows.every((value) => value === 0));
    assert.equal(await weights.layer(0), layers[0]);
    assert.ok((await weights.layer(1)).get("qkv")!.every((value) => value === 0));
  });
});

test("a file that ends too early is an error, in either half of a long read", async () => {
  await withWeights(0, async (weights, path) => {
    for (const kept of [0.9, 0.3]) {
      truncateSync(path, Math.floor((2 + kept) * 4 * rows * columns));
      await assert.rejects(weights.headSlice(0, rows), /the prepared weights end at byte/);
    }
    assertPlaces((await weights.layer(1)).get("qkv")!, rows * columns);
  });
});
