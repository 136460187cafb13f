// The order of examples: what it holds, that it is the same however its units are run, and that none of them is long.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { runUnits } from "../tests/training-job-fixture.ts";
import { ExampleOrder, shuffled, shuffling } from "./example-order.ts";

test("each epoch has every example once, in an order of its own, whichever step is asked for first", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 9 }),
      fc.nat(),
      async (examples, batchSize, seed) => {
        const options = { examples, batchSize, epochs: 3, seed };
        const order = new ExampleOrder(options);
        const perEpoch = order.steps / 3;
        const steps: (readonly number[])[] = [];
        for (let step = 0; step < order.steps; step++) steps.push(await runUnits(order.at(step)));
        for (let epoch = 0; epoch < 3; epoch++) {
          const seen = steps.slice(epoch * perEpoch, (epoch + 1) * perEpoch).flat();
          assert.deepEqual(
            seen.sort((one, other) => one - other),
            Array.from({ length: examples }, (_, index) => index),
          );
        }
        const last = order.steps - 1;
        assert.deepEqual(await runUnits(new ExampleOrder(options).at(last)), steps[last]);
      },
    ),
  );
});

test("a large epoch is shuffled in units, none of which has more than a share of it", async () => {
  const count = 1_000_000;
  const whole = shuffled(count, 5); // before anything is timed
  const units = shuffling(count, 5);
  const spent: number[] = [];
  let next = units.next();
  while (!next.done) {
    const before = process.cpuUsage();
    await next.value.run();
    const { user } = process.cpuUsage(before);
    spent.push(user);
    next = units.next();
  }
  const order = next.value;
  const total = spent.reduce((sum, own) => sum + own, 0);
  assert.ok(spent.length >= 8 && Math.max(...spent) < total / 2, `${spent}`);
  assert.ok(whole.every((index, at) => index === order[at]));
});
