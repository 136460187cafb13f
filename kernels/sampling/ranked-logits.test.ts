// A token drawn from the most likely ones is the one that is drawn from all logits, with the same report.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { logSumExp, topIndices } from "./logprobs.ts";
import { mostCandidates } from "./ranked-logits.ts";
import { greedySampling, Sampler } from "./sampler.ts";

const vocabSize = 40;
/** Hundredths: logits that differ by less may round to one weight, and then their order is the row's. */
const row = fc
  .array(fc.integer({ min: -2000, max: 2000 }), { minLength: vocabSize, maxLength: vocabSize })
  .map((hundredths) => Float32Array.from(hundredths, (value) => value / 100));
const rows = fc.array(row, { minLength: 1, maxLength: 6 });
const options = fc.record({
  temperature: fc.constantFrom(0, 0.3, 1, 2),
  topK: fc.integer({ min: 1, max: 12 }),
  topP: fc.constantFrom(1, 0.9, 0.2),
  minP: fc.constantFrom(0, 0.1),
  seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
});
const banned = fc.uniqueArray(fc.integer({ min: 0, max: vocabSize - 1 }), { maxLength: 5 });
const logprobs = fc.option(fc.integer({ min: 0, max: 8 }));

test("draws are the same from the most likely tokens as from all", () => {
  fc.assert(
    fc.property(rows, options, banned, logprobs, (texts, chosen, bans, count) => {
      const sampling = { ...greedySampling, ...chosen };
      const [whole, ranked] = [new Sampler(sampling, []), new Sampler(sampling, [])];
      for (const logits of texts) {
        const candidates = ranked.candidates(count, bans)!;
        const tokenIds = topIndices(logits, candidates);
        const likely = { tokenIds, logits: Float32Array.from(tokenIds, (id) => logits[id]!) };
        const found = ranked.draw({ ...likely, logSumExp: logSumExp(logits) }, count, bans);
        assert.deepEqual(found, whole.draw(logits.slice(), count, bans));
      }
    }),
  );
});

test("what depends on every logit asks for all of them", () => {
  const candidates = (changes: Partial<typeof greedySampling>, count: number | null = null) =>
    new Sampler({ ...greedySampling, ...changes }, []).candidates(count, []);
  assert.equal(candidates({}), 1);
  assert.equal(candidates({}, 5), 5);
  assert.equal(candidates({ temperature: 1, topK: 20 }), 20);
  for (const changes of [
    { temperature: 1 },
    { temperature: 1, topP: 0.5 },
    { repetitionPenalty: 1.1 },
    { presencePenalty: 0.5 },
    { frequencyPenalty: 0.5 },
    { logitBias: [[3, 1]] as const },
    { temperature: 1, topK: mostCandidates + 1 },
  ]) {
    assert.equal(candidates(changes), null, JSON.stringify(changes));
  }
});
