import assert from "node:assert/strict";
import { test } from "node:test";
import { Random } from "./random.ts";

const draws = 40_000;

/** Mean and variance of many draws. */
function moments(draw: (random: Random) => number) {
  const random = new Random(11, 3);
  const values = Array.from({ length: draws }, () => draw(random));
  const mean = values.reduce((sum, value) => sum + value, 0) / draws;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / draws;
  return { mean, variance };
}

const laws = [
  { name: "uniform", draw: (random: Random) => random.uniform(), mean: 1 / 2, variance: 1 / 12 },
  { name: "exponential", draw: (random: Random) => random.exponential(), mean: 1, variance: 1 },
  { name: "normal", draw: (random: Random) => random.normal(), mean: 0, variance: 1 },
  ...[0.1, 0.5, 1, 4].map((shape) => ({
    name: `gamma of shape ${shape}`,
    draw: (random: Random) => random.gamma(shape),
    mean: shape,
    variance: shape,
  })),
];

for (const { name, draw, mean, variance } of laws) {
  test(`${name} has its mean and variance`, () => {
    const measured = moments(draw);
    // Five standard errors of the mean; the variance's error depends on the fourth moment, so it gets a tenth.
    assert.ok(Math.abs(measured.mean - mean) < 5 * Math.sqrt(variance / draws), `mean ${measured.mean}`);
    assert.ok(Math.abs(measured.variance / variance - 1) < 0.1, `variance ${measured.variance}`);
  });
}

test("the same words draw the same, other words others", () => {
  const first = (...words: number[]) => new Random(...words).uniform();
  assert.equal(first(1, 2), first(1, 2));
  const seen = [first(1), first(2), first(1, 0), first(1, 2), first(2, 1), first(2 ** 32 + 1), first()];
  assert.equal(new Set(seen).size, seen.length);
});

test("neighbouring seeds draw independently", () => {
  const pairs = Array.from({ length: 4000 }, (_, seed) => {
    return [new Random(seed).normal(), new Random(seed + 1).normal()] as const;
  });
  const correlation = pairs.reduce((sum, [a, b]) => sum + a * b, 0) / pairs.length;
  assert.ok(Math.abs(correlation) < 0.08, `correlation ${correlation}`);
});
