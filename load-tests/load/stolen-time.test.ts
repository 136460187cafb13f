import assert from "node:assert/strict";
import { test } from "node:test";
import { clockOfHadTime, parseProcessorTime, processorTime, stolenShare } from "./stolen-time.ts";

test("the stolen time of all processors is read, guests' time counts once", () => {
  const stat =
    "cpu  100 1 20 300 4 0 5 70 50 0\ncpu0 50 0 10 150 2 0 2 35 25 0\ncpu1 50 1 10 150 2 0 3 35 25 0\nintr 1\n";
  assert.deepEqual(parseProcessorTime(stat), { stolen: 70, each: 250 });
  assert.equal(parseProcessorTime("nothing of the kind"), null);
  assert.equal(parseProcessorTime("cpu  1 2 3\n"), null);
});

test("the share is of the time between; none where it is not counted", () => {
  assert.equal(stolenShare({ stolen: 10, each: 100 }, { stolen: 35, each: 200 }), 0.25);
  assert.equal(stolenShare({ stolen: 10, each: 100 }, { stolen: 10, each: 100 }), 0);
  assert.equal(stolenShare({ stolen: 0, each: 100 }, { stolen: 180, each: 200 }), 1); // of two processors
  assert.equal(stolenShare(null, null), 0);
});

test("a clock of had time stands still for what was stolen, and never goes back", () => {
  const machine = { nowMs: 1000, stolen: 7 };
  const clock = clockOfHadTime(
    () => machine.nowMs,
    () => machine,
  );
  const shown = (nowMs: number, stolen: number) => {
    Object.assign(machine, { nowMs, stolen });
    return clock();
  };
  assert.equal(shown(1000, 7), 1000);
  assert.equal(shown(1010, 7), 1010);
  assert.equal(shown(1020, 9), 1010); // two ticks of 10 ms, of which one is known too late
  assert.equal(shown(1030, 9), 1010);
  assert.equal(shown(1100, 10), 1070);
});

test("where nothing is counted as stolen it is the machine's clock", () => {
  let nowMs = 5;
  const clock = clockOfHadTime(
    () => nowMs,
    () => null,
  );
  assert.equal(clock(), 5);
  nowMs = 500;
  assert.equal(clock(), 500);
});

test("on Linux it is counted", { skip: process.platform !== "linux" && "no /proc/stat here" }, () => {
  const { stolen, each } = processorTime()!;
  assert.ok(stolen >= 0 && each > 0);
});
