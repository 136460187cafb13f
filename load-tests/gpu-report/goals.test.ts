import assert from "node:assert/strict";
import { test } from "node:test";
import { goalRows, goalsOf } from "./goals.ts";

const decode = [
  { rows: 16, adapters: 0, tokensPerSecond: 1000 },
  { rows: 16, adapters: 16, tokensPerSecond: 840 },
];
const peftDecode = [{ rows: 16, adapters: 16, msPerStep: 64, tokensPerSecond: 250 }];
const peft = { device: "cuda", dtype: "bfloat16", versions: {}, decode: peftDecode };
const coServing = {
  rows: 16,
  capacity: 10,
  trainingAlone: 100,
  trainingBeside: 81,
  trainingShare: 0.81,
  requests: 200,
  inTime: 0.985,
  ttftP99Ms: 1000,
  tpotP99Ms: 300,
};

test("each goal is met or missed by what was measured", () => {
  const goals = goalsOf({ rows: 16, decode, peft, coServing });
  assert.deepEqual(
    goals.map(({ measured, met }) => [measured!.toFixed(3), met]),
    [
      ["3.360", true],
      ["0.160", false],
      ["0.810", true],
      ["0.985", false],
    ],
  );
});

test("what was not measured is neither", () => {
  const reason = "no torch";
  const goals = goalsOf({ rows: 16, decode, peft: { reason }, coServing: { reason } });
  assert.deepEqual(
    goals.map(({ met }) => met),
    [null, false, null, null],
  );
});

test("goals are stated at 16 rows, or at the most that a plan has", () => {
  assert.equal(goalRows({ rows: [1, 4, 16, 64] }), 16);
  assert.equal(goalRows({ rows: [1, 2] }), 2);
});
