import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PackedLogprobs, type ScoredToken } from "./packed-logprobs.ts";

const tokenId = fc.nat({ max: 300_000 });
const value = fc.double({ max: 0, noNaN: true });
const scored = fc
  .record({
    tokenId,
    textOffset: fc.nat(),
    logprob: fc.option(fc.tuple(value, fc.array(fc.tuple(tokenId, value), { maxLength: 3 }))),
  })
  .map(({ tokenId, textOffset, logprob }): ScoredToken => {
    const own = logprob && { tokenId, logprob: logprob[0], top: logprob[1] };
    return { tokenId, textOffset, logprob: own };
  });

test("what is packed comes out as it was", () => {
  fc.assert(
    fc.property(fc.array(scored, { maxLength: 200 }), (tokens) => {
      const packed = new PackedLogprobs(3, tokens.length);
      for (const token of tokens) packed.push(token);
      assert.equal(packed.length, tokens.length);
      assert.deepEqual([...packed.from(0)], tokens);
      assert.deepEqual([...packed.from(70)], tokens.slice(70));
    }),
  );
});
