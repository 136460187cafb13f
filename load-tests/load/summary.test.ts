import assert from "node:assert/strict";
import { test } from "node:test";
import { atLeast, atMost } from "./check.ts";
import type { RequestRecord } from "./request-record.ts";
import { judgeClient } from "./run-workload.ts";
import { extraWaits } from "./scenarios/cold-adapters.ts";
import { noErrors } from "./scenarios/expectations.ts";
import { servedShare } from "./scenarios/noisy-neighbour.ts";
import { figuresBy, Summary } from "./summary.ts";

const slo = { ttftMs: 100, tpotMs: 20 };
const window = { fromMs: 1000, toMs: 3000 };

function record(own: Partial<RequestRecord> & { readonly dueMs: number }): RequestRecord {
  const { dueMs } = own;
  return {
    stream: 0,
    tenant: "a",
    model: "m",
    sentMs: dueMs,
    endedMs: dueMs + 90,
    chunkMs: Float64Array.of(dueMs + 50, dueMs + 60, dueMs + 80),
    promptTokens: 10,
    outputTokens: 3,
    outcome: "finished",
    error: null,
    ...own,
  };
}

const figuresOf = (...records: RequestRecord[]) => new Summary(slo).add(records, window).figures();

test("latencies count from when a request was due", () => {
  const { ttftMs, tpotMs, gapMs, endToEndMs } = figuresOf(record({ dueMs: 1000, sentMs: 1030 }));
  assert.equal(ttftMs.p50, 50);
  assert.equal(tpotMs.p50, 15);
  assert.deepEqual([gapMs.p50, gapMs.max], [10, 20]);
  assert.equal(endToEndMs.p50, 90);
});

test("a piece of several tokens counts as several", () => {
  const { outputTokensPerSecond, tpotMs } = figuresOf(record({ dueMs: 1000, outputTokens: 7 }));
  assert.equal(outputTokensPerSecond, 3.5); // 7 tokens in 2 s
  assert.equal(tpotMs.p50, 5);
});

test("only what arrives in the window counts as speed", () => {
  const { outputTokensPerSecond, requestsPerSecond } = figuresOf(
    record({ dueMs: 945 }), // two of its three pieces
    record({ dueMs: 2990, endedMs: 3080 }), // none
    record({ dueMs: 100 }),
  );
  assert.equal(outputTokensPerSecond, 1);
  assert.equal(requestsPerSecond, 0.5);
});

test("goodput asks for both objectives; failures count against it, cancels do not", () => {
  const slowStart = record({ dueMs: 1500, chunkMs: Float64Array.of(1601, 1602), outputTokens: 2 });
  const slowTokens = record({ dueMs: 1500, chunkMs: Float64Array.of(1550, 1571), outputTokens: 2 });
  const failed = record({ dueMs: 1500, outcome: "failed", error: "500 oops" });
  const cancelled = record({ dueMs: 1500, outcome: "cancelled" });
  const late = record({ dueMs: 500 });
  const { goodput, errors, requests } = figuresOf(
    record({ dueMs: 1500 }),
    slowStart,
    slowTokens,
    failed,
    cancelled,
    late,
  );
  assert.deepEqual(goodput, { share: 0.25, requestsPerSecond: 0.5 });
  assert.deepEqual(errors, { "500 oops": 1 });
  assert.equal(requests, 6);
});

test("rounds add up: their records, and the seconds of their windows", () => {
  const summary = new Summary(slo)
    .add([record({ dueMs: 1000 })], window)
    .add([record({ dueMs: 1000 })], window);
  assert.equal(summary.figures().outputTokensPerSecond, 1.5);
  assert.equal(summary.figures().requests, 2);
});

test("groups have figures of their own, the largest first", () => {
  const records = [
    record({ dueMs: 1000, model: "x" }),
    ...[1100, 1200].map((dueMs) => record({ dueMs, model: "y" })),
  ];
  const groups = figuresBy("model", records, { slo, window });
  assert.deepEqual(
    groups.map(({ name, requests, ttftMs }) => [name, requests, ttftMs.count]),
    [
      ["y", 2, 2],
      ["x", 1, 1],
    ],
  );
});

test("a check holds at its limit, fails beyond it, and fails where nothing was measured", () => {
  const of = (value: number) => ({ name: "n", value });
  assert.deepEqual(
    [0.89, 0.9, Number.NaN].map((value) => atLeast(0.9, of(value)).passed),
    [false, true, false],
  );
  assert.deepEqual(
    [41, 40, Number.NaN].map((value) => atMost(40, of(value)).passed),
    [false, true, false],
  );
});

test("failed and unfinished requests are errors, cancelled ones are not", () => {
  const failed = record({ dueMs: 1, outcome: "failed", error: "429 busy" });
  const of = (...records: RequestRecord[]) => noErrors(figuresOf(...records)).value;
  assert.equal(of(failed, record({ dueMs: 1, outcome: "unfinished" }), record({ dueMs: 1 })), 2);
  assert.equal(of(record({ dueMs: 1, outcome: "cancelled" })), 0);
});

test("a client that lagged says so", () => {
  const healthy = { eventLoopDelayP99Ms: 3, cpuShare: 0.2 };
  const onTime = [record({ dueMs: 10 })];
  assert.equal(judgeClient(onTime, [healthy, healthy]).bottleneck, null);
  assert.match(judgeClient([record({ dueMs: 10, sentMs: 100 })], [healthy]).bottleneck!, /sendLagP99Ms 90/);
  assert.match(
    judgeClient(onTime, [healthy, { ...healthy, eventLoopDelayP99Ms: 99 }]).bottleneck!,
    /eventLoop/,
  );
  assert.match(judgeClient(onTime, [healthy, { ...healthy, cpuShare: 0.99 }]).bottleneck!, /cpuShare/);
});

test("cold-adapters compares the two requests to each adapter", () => {
  const after = (dueMs: number, waitMs: number) =>
    record({ dueMs, chunkMs: Float64Array.of(dueMs + waitMs) });
  const records = [after(0, 70), after(100, 20), after(200, 30), after(300, 20), after(400, 99)];
  assert.deepEqual([...extraWaits({ records }).sorted()], [10, 50]);
});

test("a flood that was served in time is told from one that was not", () => {
  const own = [1000, 2000, 2990].map((dueMs) => record({ dueMs, tenant: "flood" }));
  assert.equal(servedShare({ records: [...own, record({ dueMs: 2990 })], window }, "flood"), 2 / 3);
});
