import assert from "node:assert/strict";
import { test } from "node:test";
import { randomAt } from "../kernels/sampling/random.ts";
import { UnitLatency } from "./unit-latency.ts";

test("nothing is known of a kind before its first unit, and its longest one is the bound at first", () => {
  const latency = new UnitLatency();
  assert.equal(latency.boundMs({ kind: "forward", tokens: 64 }), null);
  for (const ms of [5, 40, 10]) latency.took({ kind: "forward", tokens: 64 }, ms);
  assert.equal(latency.boundMs({ kind: "forward", tokens: 64 }), 40);
  assert.equal(latency.boundMs({ kind: "backward", tokens: 64 }), null);
  assert.equal(latency.error, null);
});

test("nine of ten units end within the bound, though some kinds' times scatter more than others'", () => {
  const latency = new UnitLatency();
  let draws = 0;
  const random = () => randomAt(7, draws++);
  const times = {
    forward: (tokens: number) => 2 + 0.2 * tokens,
    backward: (tokens: number) => (5 + 0.5 * tokens) * (0.7 + 0.6 * random()),
    loss: (tokens: number) => (3 + 0.1 * tokens) * (random() < 0.2 ? 1.6 + 0.6 * random() : 1), // widens weights
  };
  const within = { forward: 0, backward: 0, loss: 0 };
  const bounds = { forward: 0, backward: 0, loss: 0 };
  const kinds = Object.keys(times) as (keyof typeof times)[];
  const rounds = 400;
  for (let round = -40; round < rounds; round++) {
    for (const kind of kinds) {
      const tokens = 16 + Math.floor(random() * 112);
      const ms = times[kind](tokens);
      if (round >= 0) {
        const bound = latency.boundMs({ kind, tokens })!;
        if (ms <= bound + 1e-9) within[kind]++;
        bounds[kind] += bound / ms / rounds;
      }
      latency.took({ kind, tokens }, ms);
    }
  }
  for (const kind of kinds) {
    assert.ok(within[kind] / rounds >= 0.87, `${kind}: ${within[kind]} of ${rounds}`);
    assert.ok(bounds[kind] <= 2.2, `${kind}: bounds are ${bounds[kind]} times as long as what they bound`);
  }
});

test("units that something else held up do not hold back those that follow", () => {
  const latency = new UnitLatency();
  const unit = { kind: "forward", tokens: 64 };
  let most = 0;
  for (let run = 0; run < 400; run++) {
    latency.took(unit, run % 30 === 29 ? 160 : 20);
    if (run >= 60) most = Math.max(most, latency.boundMs(unit)!);
  }
  assert.ok(most < 40, `a bound of ${most} ms for units of 20`);
});
