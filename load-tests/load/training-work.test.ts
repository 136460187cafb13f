import assert from "node:assert/strict";
import { test } from "node:test";
import { MetricsText } from "./metrics-text.ts";
import { secondsAtPaceOf, unitCounts, unitsBetween, unitsOfAll } from "./training-work.ts";

const scrape = (forward: readonly [number, number], update: readonly [number, number]) =>
  unitCounts(
    new MetricsText(
      [
        `cotenant_training_units_total{model_name="base",kind="forward mlp"} ${forward[0]}`,
        `cotenant_training_units_total{model_name="base",kind="update"} ${update[0]}`,
        `cotenant_training_unit_seconds_total{model_name="base",kind="forward mlp"} ${forward[1]}`,
        `cotenant_training_unit_seconds_total{model_name="base",kind="update"} ${update[1]}`,
      ].join("\n"),
    ),
  );

test("work is told in the time that the same kinds take elsewhere, whatever the mix and the speed", () => {
  const alone = unitsBetween(scrape([100, 2], [50, 0.1]), scrape([200, 4], [100, 0.2])); // 20 ms and 2 ms each
  assert.equal(alone.get("forward mlp")?.count, 100);
  assert.ok(Math.abs(secondsAtPaceOf(alone, alone) - 2.1) < 1e-9);
  const slower = unitsBetween(scrape([0, 0], [0, 0]), scrape([50, 2], [0, 0])); // 40 ms each, no update among them
  assert.ok(Math.abs(secondsAtPaceOf(slower, alone) - 1) < 1e-9);
  assert.ok(Math.abs(secondsAtPaceOf(unitsOfAll([slower, slower]), alone) - 2) < 1e-9);
});

test("a kind that began between two scrapes counts from none; one that is not known elsewhere does not count", () => {
  const began = unitsBetween(new Map(), new Map([["open", { count: 3, seconds: 1 }]]));
  assert.deepEqual([...began], [["open", { count: 3, seconds: 1 }]]);
  assert.equal(secondsAtPaceOf(began, new Map()), 0);
  assert.equal(secondsAtPaceOf(began, new Map([["open", { count: 0, seconds: 0 }]])), 0);
});
