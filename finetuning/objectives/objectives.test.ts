// Slopes of every objective by differences: by log-probabilities, and by logits of a small vocabulary.

import assert from "node:assert/strict";
import { test } from "node:test";
import { randomAt } from "../../kernels/sampling/random.ts";
import { type ObjectiveName, objectives } from "./index.ts";
import type { Objective, ScoredSequence } from "./objective.ts";

const vocabulary = 5;
const lengths = [3, 4, 1, 6];
let draws = 0;
const random = (size: number) => (randomAt(3, draws++) * 2 - 1) * size;
const targets = lengths.map((length) => Array.from({ length }, () => Math.floor((random(1) + 1) * 2.49)));
const weights = lengths.map((length) => Array.from({ length }, (_, at) => [1, 0.5, 2][at % 3]!));
const references = lengths.map((length) => Array.from({ length }, () => random(2) - 3));

/** Logits of all scored tokens, [tokens][vocabulary], to the objective's loss. */
function evaluate(objective: Objective, logits: readonly (readonly number[])[]) {
  let token = 0;
  const sequences: ScoredSequence[] = targets.map((own, index) => ({
    weights: weights[index]!,
    reference: objective.needsReference ? references[index]! : null,
    logprobs: own.map((target) => {
      const row = logits[token++]!;
      return row[target]! - Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));
    }),
  }));
  return objective.evaluate(sequences);
}

for (const [name, make] of Object.entries(objectives)) {
  test(`${name}: the gradient by logits`, () => {
    const objective = make({ beta: 0.3 });
    const logits = targets.flat().map(() => Array.from({ length: vocabulary }, () => random(2)));
    const { slopes } = evaluate(objective, logits);
    assert.equal(slopes.length, logits.length);
    for (const [token, target] of targets.flat().entries()) {
      const row = logits[token]!;
      const sum = row.reduce((total, logit) => total + Math.exp(logit), 0);
      for (let id = 0; id < vocabulary; id++) {
        const expected = slopes[token]! * ((id === target ? 1 : 0) - Math.exp(row[id]!) / sum);
        const [up, down] = [1e-5, -1e-5].map((step) => {
          const moved = logits.map((values) => [...values]);
          moved[token]![id]! += step;
          return evaluate(objective, moved).loss;
        });
        assert.ok(Math.abs((up! - down!) / 2e-5 - expected) < 1e-8, `token ${token}, logit ${id}`);
      }
    }
  });
}

const pair = (chosen: number, rejected: number): ScoredSequence[] => [
  { weights: [1], logprobs: [chosen], reference: [-1] },
  { weights: [1], logprobs: [rejected], reference: [-2] },
];
const evaluated = (name: ObjectiveName, sequences: ScoredSequence[]) =>
  objectives[name]({ beta: 0.5 }).evaluate(sequences);

test("cross-entropy sums by weight", () => {
  const sequences = [
    { weights: [1, 2], logprobs: [-1, -3], reference: null },
    { weights: [0.5], logprobs: [-4], reference: null },
  ];
  const { loss, weight, slopes } = evaluated("cross-entropy", sequences);
  assert.equal(loss, 1 + 6 + 2);
  assert.equal(weight, 3.5);
  assert.deepEqual([...slopes], [-1, -2, -0.5]);
});

test("dpo starts at log 2 where adapter and reference agree, and counts what is preferred", () => {
  const equal = evaluated("dpo", pair(-1, -2));
  assert.equal(equal.loss, Math.log(2));
  assert.deepEqual(equal.metrics, { rewardMargin: 0, preferred: 0 });
  const better = evaluated("dpo", [...pair(-0.5, -3), ...pair(-5, -1)]);
  assert.equal(better.weight, 2);
  assert.deepEqual(better.metrics, { rewardMargin: 0.5 * (1.5 - 5), preferred: 1 });
});

test("dpo stays finite at any margin", () => {
  for (const margin of [-1e6, 1e6]) {
    const { loss, slopes } = evaluated("dpo", pair(margin, -margin));
    assert.ok(Number.isFinite(loss) && slopes.every(Number.isFinite), `${margin}: ${loss}, ${slopes}`);
  }
});
