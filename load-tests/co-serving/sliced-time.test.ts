import assert from "node:assert/strict";
import { test } from "node:test";
import { Lane, SlicedTime } from "./sliced-time.ts";

let realMs = 0;
const time = new SlicedTime(() => realMs, 20);
const busy = (ms: number) => {
  realMs += ms;
};
const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Works for so many milliseconds in each of its turns, and notes its clock. */
function worker(ms: number) {
  const clock: number[] = [];
  const lane = new Lane(
    () => {},
    () => null,
  );
  time.begin(lane, async () => {
    for (;;) {
      await nextTurn();
      busy(ms);
      clock.push(performance.now());
    }
  });
  return { lane, clock };
}

test("clocks go on only in their turns, and all of them together", async () => {
  const [quick, slow] = [worker(1), worker(5)];
  const fromMs = realMs;
  await time.takeTurns([quick.lane, slow.lane], () => quick.lane.ms >= 200 && slow.lane.ms >= 200);
  const tookMs = realMs - fromMs;
  for (const { lane, clock } of [quick, slow]) {
    assert.ok(lane.ranMs === lane.ms && lane.ms < 0.75 * tookMs, `${lane.ms} of ${tookMs} ms`);
    assert.ok(clock.at(-1)! <= lane.ms);
    assert.deepEqual(
      clock,
      clock.toSorted((a, b) => a - b),
    );
  }
  assert.ok(quick.clock.length > 2 * slow.clock.length, `${quick.clock.length}, ${slow.clock.length}`);
});

test("a clock with nothing to do goes on to when there is", async () => {
  const heardMs: number[] = [];
  let dueMs = 1_000_000;
  const lane: Lane = new Lane(
    () => {
      busy(1);
      if (time.nowMs(lane) < dueMs) return;
      heardMs.push(time.nowMs(lane));
      dueMs += 1_000_000;
    },
    () => dueMs,
  );
  const fromMs = realMs;
  await time.takeTurns([lane], () => heardMs.length >= 3);
  assert.ok(realMs - fromMs < 10_000);
  for (const [index, ms] of heardMs.slice(0, 3).entries()) {
    assert.ok(ms >= 1_000_000 * (index + 1) && ms < 1_000_000 * (index + 1.1), `${ms}`);
  }
});

test("late ones catch up before anything takes turns", () => {
  const lanes = [0, 30, 20].map((ms) => Object.assign(worker(1).lane, { ms }));
  assert.equal(time.align(lanes), 30);
  assert.deepEqual(
    lanes.map(({ ms }) => ms),
    [30, 30, 30],
  );
});
