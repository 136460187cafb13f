import assert from "node:assert/strict";
import { test } from "node:test";
import { randomAt } from "./random.ts";

test("uniform over seeds as over draws, and within [0, 1)", () => {
  const sequences: ((index: number) => number)[] = [
    (index) => randomAt(0, index),
    (index) => randomAt(0xffffffff, index),
    (index) => randomAt(index, 0),
    (index) => randomAt(index, 1),
  ];
  for (const draw of sequences) {
    const cells = Array<number>(64).fill(0);
    for (let index = 0; index < 64_000; index++) {
      const value = draw(index);
      assert.ok(value >= 0 && value < 1);
      cells[Math.floor(value * 64)]!++;
    }
    const statistic = cells.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
    assert.ok(statistic < 63 + 4 * Math.sqrt(2 * 63), `chi-square ${statistic} with 63 degrees`);
  }
});

test("neighbouring draws and neighbouring seeds are not correlated", () => {
  const correlation = (pair: (index: number) => readonly [number, number]) => {
    let sum = 0;
    for (let index = 0; index < 20_000; index++) {
      const [x, y] = pair(index);
      sum += (x - 0.5) * (y - 0.5);
    }
    return (sum / 20_000) * 12;
  };
  assert.ok(Math.abs(correlation((index) => [randomAt(9, index), randomAt(9, index + 1)])) < 0.03);
  assert.ok(Math.abs(correlation((index) => [randomAt(index, 3), randomAt(index + 1, 3)])) < 0.03);
  assert.ok(Math.abs(correlation((index) => [randomAt(index, 0), randomAt(index, 1)])) < 0.03);
  // A seed's draws are not its neighbour's, shifted by one.
  assert.ok(Math.abs(correlation((index) => [randomAt(8, index + 1), randomAt(9, index)])) < 0.03);
});

test("a pure function of seed and index", () => {
  assert.equal(randomAt(12, 34), randomAt(12, 34));
  const distinct = new Set(Array.from({ length: 10_000 }, (_, index) => randomAt(5, index)));
  assert.equal(distinct.size, 10_000);
});
