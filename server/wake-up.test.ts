import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { WakeUp } from "./wake-up.ts";

function scene() {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1000 });
  const calledAtMs: number[] = [];
  const wakeUp = new WakeUp(() => calledAtMs.push(Date.now()));
  return { wakeUp, calledAtMs, [Symbol.dispose]: () => mock.timers.reset() };
}

test("calls at the earliest time that it was told, once", () => {
  using all = scene();
  for (const atMs of [5000, 3000, 4000]) all.wakeUp.at(atMs);
  mock.timers.tick(1999);
  assert.deepEqual(all.calledAtMs, []);
  mock.timers.tick(1);
  mock.timers.tick(10_000);
  assert.deepEqual(all.calledAtMs, [3000]);
  all.wakeUp.at(0); // long over
  mock.timers.tick(0);
  assert.equal(all.calledAtMs.length, 2);
});

test("times beyond what a timer can wait are waited for", () => {
  using all = scene();
  const atMs = 1000 + 90 * 86_400_000;
  all.wakeUp.at(atMs);
  for (let day = 0; day < 89; day++) mock.timers.tick(86_400_000);
  assert.deepEqual(all.calledAtMs, []);
  mock.timers.tick(86_400_000);
  assert.deepEqual(all.calledAtMs, [atMs]);
});

test("once closed it calls no more", () => {
  using all = scene();
  all.wakeUp.at(2000);
  all.wakeUp.close();
  all.wakeUp.at(1500);
  mock.timers.tick(5000);
  assert.deepEqual(all.calledAtMs, []);
});
