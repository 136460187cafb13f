// What the sampler draws against the naive distribution of kernels/reference/sampler.ts, and its fixed rules.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type History, samplingDistribution } from "../reference/sampler.ts";
import { logSumExp } from "./logprobs.ts";
import { randomAt } from "./random.ts";
import { greedySampling, Sampler, type SamplerOptions, scoreToken } from "./sampler.ts";

const plain: SamplerOptions = { ...greedySampling, temperature: 1, seed: 7 };
const vocabSize = 40;
const someLogits = Float32Array.from({ length: vocabSize }, (_, i) => randomAt(5, i) * 6 - 3);

const filters: Record<string, Partial<SamplerOptions>> = {
  none: {},
  "low temperature": { temperature: 0.4 },
  "high temperature": { temperature: 2.5 },
  top_k: { topK: 5 },
  "top_k of one": { topK: 1 },
  "top_k beyond the vocabulary": { topK: 1000 },
  top_p: { topP: 0.7 },
  "top_p near zero": { topP: 1e-9 },
  min_p: { minP: 0.2 },
  "min_p of one": { minP: 1 },
  "all of them": { temperature: 1.3, topK: 12, topP: 0.8, minP: 0.05 },
  "top_k and top_p": { topK: 6, topP: 0.6 },
  "min_p and top_p": { minP: 0.1, topP: 0.9 },
  "bias up and down": {
    logitBias: [
      [3, 4],
      [11, -100],
      [20, 2.5],
    ],
  },
};

for (const [name, changes] of Object.entries(filters)) {
  test(`draws follow the distribution: ${name}`, () => {
    const options = { ...plain, ...changes };
    const sampler = new Sampler(options, []);
    const counts = Array<number>(vocabSize).fill(0);
    for (let draw = 0; draw < 20_000; draw++) counts[sampler.draw(someLogits.slice(), null, []).tokenId]!++;
    assertFollows(counts, samplingDistribution(someLogits, options));
  });
}

/** Pearson's chi-square over the tokens that are expected five times or more, the rest pooled. */
function assertFollows(counts: readonly number[], distribution: readonly number[]): void {
  const draws = counts.reduce((sum, count) => sum + count, 0);
  let statistic = 0;
  let cells = 0;
  const rest = { count: 0, expected: 0 };
  for (const [token, p] of distribution.entries()) {
    if (p === 0) assert.equal(counts[token], 0, `token ${token} cannot be drawn`);
    const expected = p * draws;
    if (expected < 5) {
      rest.count += counts[token]!;
      rest.expected += expected;
      continue;
    }
    statistic += (counts[token]! - expected) ** 2 / expected;
    cells++;
  }
  if (rest.expected > 1) {
    statistic += (rest.count - rest.expected) ** 2 / rest.expected;
    cells++;
  }
  const freedom = Math.max(1, cells - 1);
  // Mean and deviation of chi-square; the seed is fixed, so this passes always or never.
  assert.ok(
    statistic <= freedom + 4 * Math.sqrt(2 * freedom),
    `chi-square ${statistic} with ${freedom} degrees`,
  );
}

test("whatever the filters, only tokens of the reference's support are drawn", () => {
  const logits = fc.array(fc.integer({ min: -8, max: 8 }), { minLength: 1, maxLength: 30 });
  const options = fc.record({
    temperature: fc.constantFrom(0.3, 1, 2),
    topK: fc.constantFrom(0, 1, 2, 7, 50),
    topP: fc.constantFrom(0.11, 0.53, 0.907, 0.9903, 1),
    minP: fc.constantFrom(0, 0.013, 0.31),
  });
  fc.assert(
    fc.property(logits, options, (list, changes) => {
      const distribution = samplingDistribution(list, { ...plain, ...changes });
      const sampler = new Sampler({ ...plain, ...changes }, []);
      for (let draw = 0; draw < 20; draw++) {
        const { tokenId } = sampler.draw(Float32Array.from(list), null, []);
        assert.ok(distribution[tokenId]! > 0, `token ${tokenId}`);
      }
    }),
    { seed: 1, numRuns: 1000 },
  );
});

test("the nucleus is taken of all that top_k left over, however little each weighs", () => {
  const weights = [0.55, 0.45, ...Array<number>(40).fill(0.008), ...Array<number>(18).fill(1e-6)];
  const options = { ...plain, topK: 42, topP: 0.5 };
  const sampler = new Sampler(options, []);
  const logits = Float32Array.from(weights, Math.log);
  const drawn = new Set(Array.from({ length: 100 }, () => sampler.draw(logits.slice(), null, []).tokenId));
  assert.deepEqual(drawn, new Set([0, 1])); // half of 1.32, the weight of the first 42
});

test("a top_k that is sorted draws as one that is inserted", () => {
  const logits = Float32Array.from({ length: 3000 }, (_, i) => randomAt(6, i) * 3);
  const draws = (topK: number, minP: number) => {
    const sampler = new Sampler({ ...plain, topK, minP }, []);
    return Array.from({ length: 200 }, () => sampler.draw(logits.slice(), null, []).tokenId);
  };
  assert.ok(draws(1025, 0.9).every((token) => logits[token]! > 2.8));
  assert.deepEqual(draws(1025, 0.9), draws(1000, 0.9)); // min_p leaves fewer than either
});

/** A sampler that has drawn the given tokens: each stood alone when it was drawn. */
function withHistory(options: SamplerOptions, history: Pick<History, "prompt" | "drawn">): Sampler {
  const sampler = new Sampler(options, history.prompt);
  for (const token of history.drawn) {
    const others = Array.from({ length: vocabSize }, (_, id) => id).filter((id) => id !== token);
    assert.equal(sampler.draw(new Float32Array(vocabSize), null, others).tokenId, token);
  }
  return sampler;
}

const likeliest = [...someLogits.keys()].sort((a, b) => someLogits[b]! - someLogits[a]!);

const penalties: Record<string, Partial<SamplerOptions>> = {
  repetition: { repetitionPenalty: 1.8 },
  "repetition below one": { repetitionPenalty: 0.6 },
  presence: { presencePenalty: 1.5 },
  frequency: { frequencyPenalty: 0.7 },
  "frequency, negative": { frequencyPenalty: -0.4 },
  all: { repetitionPenalty: 1.3, presencePenalty: 0.5, frequencyPenalty: 0.5, temperature: 0.8, topP: 0.95 },
};

for (const [name, changes] of Object.entries(penalties)) {
  test(`penalties: ${name}`, () => {
    const [first, second, third, fourth] = likeliest as [number, number, number, number];
    const history = {
      prompt: [0, 1, second, 30],
      drawn: [second, first, first, third, first],
      banned: [4, fourth],
    };
    const expected = samplingDistribution(someLogits, { ...plain, ...changes }, history);
    const unpenalised = samplingDistribution(someLogits, plain, { ...history, prompt: [], drawn: [] });
    assert.ok(Math.abs(expected[first]! - unpenalised[first]!) > 0.02);
    const counts = Array<number>(vocabSize).fill(0);
    for (let seed = 0; seed < 5_000; seed++) {
      const sampler = withHistory({ ...plain, ...changes, seed }, history);
      counts[sampler.draw(someLogits.slice(), null, history.banned).tokenId]!++;
    }
    assertFollows(counts, expected);
  });
}

test("presence and frequency count the completion only, repetition the prompt too", () => {
  const logits = () => Float32Array.of(2, 1.9, -3);
  const greedy = { ...plain, temperature: 0 };
  const drawn = (options: Partial<SamplerOptions>) =>
    new Sampler({ ...greedy, ...options }, [0]).draw(logits(), null, []).tokenId;
  assert.equal(drawn({ presencePenalty: 2, frequencyPenalty: 2 }), 0);
  assert.equal(drawn({ repetitionPenalty: 2 }), 1);
});

test("temperature 0 is greedy, the first of equal tokens wins, and a ban moves on to the next", () => {
  const greedy = new Sampler({ ...plain, temperature: 0 }, []);
  assert.equal(greedy.draw(Float32Array.of(1, 3, 3, 2), null, []).tokenId, 1);
  assert.equal(greedy.draw(Float32Array.of(1, 3, 3, 2), null, [1]).tokenId, 2);
  assert.equal(greedy.draw(Float32Array.of(1, 3, 3, 2), null, [1, 2]).tokenId, 3);
});

test("a seed draws the same again, another seed something else, and the filters do not shift the draws", () => {
  const texts = (options: Partial<SamplerOptions>) => {
    const sampler = new Sampler({ ...plain, ...options }, []);
    return Array.from({ length: 50 }, () => sampler.draw(someLogits.slice(), null, []).tokenId);
  };
  assert.deepEqual(texts({ seed: 3 }), texts({ seed: 3 }));
  assert.notDeepEqual(texts({ seed: 3 }), texts({ seed: 4 }));
  assert.deepEqual(texts({ seed: 3, topK: 5 }), texts({ seed: 3, topK: 5, minP: 1e-9 }));
});

test("reported log-probabilities are those of the unmodified distribution", () => {
  const options = { ...plain, temperature: 0.3, topK: 2, logitBias: [[8, 50]] as const };
  const { tokenId, logprob, top } = new Sampler(options, [1]).draw(someLogits.slice(), 3, []);
  assert.equal(tokenId, 8);
  const normaliser = logSumExp(someLogits);
  assert.equal(logprob, someLogits[8]! - normaliser);
  const order = [...someLogits.keys()].sort((a, b) => someLogits[b]! - someLogits[a]!);
  assert.deepEqual(
    top,
    order.slice(0, 3).map((id) => [id, someLogits[id]! - normaliser]),
  );
  assert.deepEqual(scoreToken(someLogits, 8, 3), { tokenId, logprob, top });
});

test("log-probabilities are null unless asked for; asked for none, the drawn token's still comes", () => {
  const sampler = new Sampler(plain, []);
  assert.deepEqual(
    { ...sampler.draw(someLogits.slice(), null, []), tokenId: 0 },
    { tokenId: 0, logprob: null, top: [] },
  );
  const { logprob, top } = sampler.draw(someLogits.slice(), 0, []);
  assert.ok(logprob! < 0);
  assert.deepEqual(top, []);
});
