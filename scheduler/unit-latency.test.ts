import assert from "node:assert/strict";
import { test } from "node:test";
import { randomAt } from "../kernels/sampling/random.ts";
import { UnitLatency } from "./unit-latency.ts";

test("nothing is known of a kind before its first unit, and its longest one counts at first", () => {
  const latency = new UnitLatency();
  assert.equal(latency.usualMs({ kind: "forward", tokens: 64 }), null);
  for (const ms of [5, 40, 10]) latency.took({ kind: "forward", tokens: 64 }, ms);
  assert.equal(latency.usualMs({ kind: "forward", tokens: 64 }), 40);
  assert.equal(latency.usualMs({ kind: "backward", tokens: 64 }), null);
  assert.equal(latency.error, null);
});

test("the usual time is learnt of each kind, though some kinds' times scatter more than others'", () => {
  const latency = new UnitLatency();
  let draws = 0;
  const random = () => randomAt(7, draws++);
  const usual = {
    forward: (tokens: number) => 2 + 0.2 * tokens,
    backward: (tokens: number) => 5 + 0.5 * tokens,
    loss: (tokens: number) => 3 + 0.1 * tokens,
  };
  const scatter = {
    forward: () => 1,
    backward: () => 0.7 + 0.6 * random(),
    loss: () => (random() < 0.1 ? 2 + 8 * random() : 1), // a neighbour of the machine holds it up
  };
  const kinds = Object.keys(usual) as (keyof typeof usual)[];
  const ratios: Record<string, number[]> = { forward: [], backward: [], loss: [] };
  for (let round = -40; round < 400; round++) {
    for (const kind of kinds) {
      const tokens = 16 + Math.floor(random() * 112);
      const expectedMs = usual[kind](tokens);
      if (round >= 0) ratios[kind]!.push(latency.usualMs({ kind, tokens })! / expectedMs);
      latency.took({ kind, tokens }, expectedMs * scatter[kind]());
    }
  }
  for (const kind of kinds) {
    const [least, most] = [Math.min(...ratios[kind]!), Math.max(...ratios[kind]!)];
    assert.ok(least > 0.75 && most < 1.4, `${kind}: ${least} to ${most} times as long as usual`);
  }
});
