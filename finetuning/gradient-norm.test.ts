import assert from "node:assert/strict";
import { test } from "node:test";
import { gradientNorm, judgeStep, type SkippedSteps } from "./gradient-norm.ts";

test("a step that is not finite is skipped and counted; several in a row pause the job", () => {
  const good = { loss: 1.5, norm: 2 };
  const bad = [
    { loss: Number.NaN, norm: 2 },
    { loss: 1, norm: Number.POSITIVE_INFINITY },
    { loss: Number.NEGATIVE_INFINITY, norm: Number.NaN },
  ];
  let skipped: SkippedSteps = { total: 0, inRow: 0 };
  const verdicts = [bad[0]!, good, ...bad, good].map((step) => {
    const verdict = judgeStep(step, skipped, 3);
    skipped = verdict.skipped;
    return verdict;
  });
  assert.deepEqual(
    verdicts.map(({ apply }) => apply),
    [false, true, false, false, false, true],
  );
  assert.deepEqual(
    verdicts.map(({ pause }) => pause),
    [false, false, false, false, true, false],
  );
  assert.deepEqual(skipped, { total: 4, inRow: 0 });
});

test("one gradient that is not finite shows in the norm", () => {
  assert.ok(Number.isNaN(gradientNorm(Float32Array.of(1, Number.NaN, 2))));
  assert.equal(gradientNorm(Float32Array.of(1, Number.NEGATIVE_INFINITY)), Number.POSITIVE_INFINITY);
  assert.equal(gradientNorm(Float32Array.of(3e30, 4e30)), Math.hypot(Math.fround(3e30), Math.fround(4e30)));
});
