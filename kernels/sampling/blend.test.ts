import assert from "node:assert/strict";
import { test } from "node:test";
import { blendLogits, divergence } from "./blend.ts";

const row = (...values: number[]) => Float32Array.from(values);

test("logits are blended by weight", () => {
  assert.deepEqual(blendLogits([row(1, 2), row(10, -4), row(0, 8)], [0.5, 2, -1]), row(20.5, -15));
});

test("divergence against its definition in probabilities", () => {
  const [one, other] = [row(1, 2, -3, 0.5), row(0, 2.5, 4, -80)];
  const softmax = (logits: Float32Array) => {
    const weights = [...logits].map(Math.exp);
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return weights.map((weight) => weight / sum);
  };
  const [p, q] = [softmax(one), softmax(other)];
  const expected = p.reduce((sum, probability, i) => sum + probability * Math.log(probability / q[i]!), 0);
  const found = divergence(one, other);
  assert.ok(Math.abs(found.kl - expected) < 1e-9 * expected);
  assert.equal(found.isSameTop, false);
  const itself = divergence(one, row(...[...one].map((value) => value + 5)));
  assert.ok(itself.kl < 1e-6);
  assert.equal(itself.isSameTop, true);
});

test("what the first holds for impossible does not count", () => {
  const { kl } = divergence(row(0, Number.NEGATIVE_INFINITY), row(0, 1));
  assert.ok(Math.abs(kl - Math.log(1 + Math.E)) < 1e-6);
});
