// Gradients that are compared: the same pass, and what is wrong in any tensor does not.

import assert from "node:assert/strict";
import { test } from "node:test";
import { goldenCase, temporaryCache } from "../../tests/golden/golden-case.ts";
import { openTrainingBase } from "../../tests/golden-gradients/training-base.ts";
import { TrainingKernel } from "../training/training-kernel.ts";
import {
  assertSameGradients,
  type CheckedGradients,
  checkedGradients,
  gradientDistance,
} from "./training-check.ts";

const base = await openTrainingBase(goldenCase("llama").directory, temporaryCache(), "float32");
const gradientsOf = async () =>
  checkedGradients(await TrainingKernel.open(base, { threads: 1 }), base.config);
const expected = await gradientsOf();

function withTensor(index: number, change: (value: number, at: number) => number): CheckedGradients {
  const { gradients } = expected;
  return { ...expected, gradients: gradients.with(index, gradients[index]!.map(change)) };
}

test("the same gradients pass", async () => {
  assertSameGradients(await gradientsOf(), expected);
  assert.equal(expected.gradients.length, base.config.layers * 7 * 2);
  assert.ok(expected.gradients.every((tensor) => tensor.some((value) => value !== 0)));
});

test("a tensor that is another, or has a value that is no number, does not", () => {
  for (const index of expected.gradients.keys()) {
    assert.throws(
      () =>
        assertSameGradients(
          withTensor(index, () => 0),
          expected,
        ),
      { code: "device_computes_wrong" },
    );
  }
  const noNumber = withTensor(3, (value, at) => (at === 7 ? Number.NaN : value));
  assert.throws(() => assertSameGradients(noNumber, expected), { code: "device_computes_wrong" });
  const logprobs = expected.logprobs.map((logprob) => logprob * 1.01);
  assert.throws(() => assertSameGradients({ ...expected, logprobs }, expected), {
    code: "device_computes_wrong",
  });
});

test("a small tensor's rounding is measured by the largest tensor", () => {
  const gradients = [Float32Array.of(3, 4), Float32Array.of(1e-6, 0)];
  const small = { logprobs: Float32Array.of(-1), gradients };
  const rounded = { ...small, gradients: gradients.with(1, Float32Array.of(2e-6, 0)) };
  assert.ok(Math.abs(gradientDistance(rounded, small) - 1e-6 / 0.05) < 1e-8);
});
