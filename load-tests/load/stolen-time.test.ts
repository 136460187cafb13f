import assert from "node:assert/strict";
import { test } from "node:test";
import { parseProcessorTime, processorTime, stolenShare } from "./stolen-time.ts";

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

test("on Linux it is counted", { skip: process.platform !== "linux" && "no /proc/stat here" }, () => {
  const { stolen, each } = processorTime()!;
  assert.ok(stolen >= 0 && each > 0);
});
