import assert from "node:assert/strict";
import { test } from "node:test";
import { compareFacts } from "./compare-facts.ts";
import { outsideFact } from "./facts.ts";

test("a count that grew is worse, one that fell is better, and one that nobody knows is refused", () => {
  const baseline = { same: 3, grew: 10, fell: 10, gone: 1 };
  const { worse, better, text } = compareFacts(baseline, { same: 3, grew: 11, fell: 9, come: 1 });
  assert.deepEqual(worse, ["grew", "gone", "come"]);
  assert.deepEqual(better, ["fell"]);
  assert.match(text, /grew +10 +11 +WORSE/);
});

test("the share of time has room, and no share at all is not a pass", () => {
  const worseAt = (share: number) =>
    compareFacts({ [outsideFact]: 0.2 }, { [outsideFact]: share }).worse.length;
  assert.equal(worseAt(0.3), 0);
  assert.equal(worseAt(0.01), 0);
  assert.equal(worseAt(0.4), 1);
  assert.equal(worseAt(Number.NaN), 1);
});
