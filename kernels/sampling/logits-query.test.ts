// A token drawn from what a query asks for is the one that is drawn from all logits, with the same report.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { knownLogits } from "../reference/known-logits.ts";
import { mostCandidates, scoreQuery } from "./logits-query.ts";
import { type Draw, greedySampling, Sampler, scoreToken } from "./sampler.ts";

const vocabSize = 40;
const blockTokens = 7;
/** Hundredths: logits that differ by less may round to one weight, and then their order is the row's. */
const row = fc
  .uniqueArray(fc.integer({ min: -2000, max: 2000 }), { minLength: vocabSize, maxLength: vocabSize })
  .map((hundredths) => Float32Array.from(hundredths, (value) => value / 100));
const rows = fc.array(row, { minLength: 1, maxLength: 6 });
const token = fc.integer({ min: 0, max: vocabSize - 1 });
const options = fc.record({
  temperature: fc.constantFrom(0, 0.3, 1, 2, 30),
  topK: fc.constantFrom(0, 1, 3, 12, 100),
  topP: fc.constantFrom(1, 0.9, 0.2),
  minP: fc.constantFrom(0, 0.1),
  seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
});
const changes = fc.record(
  {
    repetitionPenalty: fc.constantFrom(1.3, 0.7),
    presencePenalty: fc.constantFrom(0.51, -0.51),
    frequencyPenalty: fc.constantFrom(0.207, -0.207),
    logitBias: fc.array(fc.tuple(token, fc.constantFrom(5.003, -5.003, -100.001)), { maxLength: 4 }),
  },
  { requiredKeys: [] },
);
const prompts = fc.array(token, { maxLength: 10 });
const banned = fc.uniqueArray(token, { maxLength: 5 });
const logprobs = fc.option(fc.integer({ min: 0, max: 8 }));

/** Equal but for what sums in another order make of log-probabilities. */
function assertSame(found: Draw, expected: Draw): void {
  const rounded = ({ tokenId, logprob, top }: Draw) => ({
    tokenId,
    logprob: logprob?.toFixed(4),
    top: top.map(([id, one]) => [id, one.toFixed(4)]),
  });
  assert.deepEqual(rounded(found), rounded(expected));
}

test("draws are the same from what is asked for as from all", () => {
  fc.assert(
    fc.property(
      rows,
      fc.record({ options, changes, prompt: prompts, banned, logprobs }),
      (texts, { options: chosen, changes: changed, prompt, banned: bans, logprobs: count }) => {
        const sampling = { ...greedySampling, ...chosen, ...changed };
        const [whole, told] = [new Sampler(sampling, prompt), new Sampler(sampling, prompt)];
        for (const logits of texts) {
          const query = told.query(count, bans);
          assert.ok(query !== null);
          const known = knownLogits(logits, query, blockTokens);
          const found = told.draw(known ?? logits.slice(), count, bans);
          assertSame(found, whole.draw(logits.slice(), count, bans));
        }
      },
    ),
    { numRuns: 1000 },
  );
});

test("a nucleus that the most likely tokens do not hold asks for all logits", () => {
  const flat = Float32Array.from({ length: 2000 }, (_, id) => id / 1e4);
  const { draw } = new Sampler({ ...greedySampling, temperature: 1, topP: 0.9 }, []).query(null, [])!;
  assert.deepEqual(draw.kind === "ranked" && draw.counts, [64, 512]);
  const query = (topP: number) =>
    new Sampler({ ...greedySampling, temperature: 1, topP }, []).query(null, [])!;
  assert.equal(knownLogits(flat, query(0.9), blockTokens), null);
  assert.equal(knownLogits(flat, query(0.2), blockTokens)!.tokenIds.length, 512);
  assert.equal(knownLogits(flat, query(0.01), blockTokens)!.tokenIds.length, 64);
});

test("a token's score is the same from what is asked for as from all", () => {
  fc.assert(
    fc.property(row, token, fc.integer({ min: 0, max: 8 }), (logits, tokenId, count) => {
      const known = knownLogits(logits, scoreQuery(tokenId, count)!, blockTokens)!;
      assertSame(scoreToken(known, tokenId, count), scoreToken(logits, tokenId, count));
    }),
  );
});

test("more candidates than a device ranks are all", () => {
  assert.ok(scoreQuery(1, mostCandidates) !== null);
  assert.equal(scoreQuery(1, mostCandidates + 1), null);
  const most = { ...greedySampling, temperature: 1, topK: mostCandidates };
  assert.ok(new Sampler(most, []).query(null, []) !== null);
  assert.equal(new Sampler({ ...most, topK: mostCandidates + 1 }, []).query(null, []), null);
  assert.equal(new Sampler(greedySampling, []).query(mostCandidates + 1, []), null);
});
