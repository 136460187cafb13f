import assert from "node:assert/strict";
import { test } from "node:test";
import type { RequestRecord } from "../load/request-record.ts";
import { endlessRequests } from "../load/workload.ts";
import { type Cell, cellsFor, isFor, streamOf, warmUpOf } from "./cells.ts";
import { goalOf } from "./goals.ts";
import { type Sample, sampleOf } from "./measure.ts";
import { median } from "./median.ts";
import { joined, type Result, type Run, rowsOf } from "./results.ts";
import { markdown } from "./table.ts";

const cells = cellsFor([1, 8]);
const cellNamed = (name: string): Cell => cells.find((cell) => cell.name === name)!;
const each = cellNamed("8 clients, an adapter each");

function result(contestant: string, throughput: number, own: Partial<Result> = {}): Result {
  const figures = { throughput, decode: 1, prefill: 2 };
  const sample: Sample = {
    figures,
    firstTokenMs: 10,
    promptTokens: 64,
    loadAverage: 2,
    clientBottleneck: null,
  };
  return { shape: "s", bits: 4, cell: each, contestant, round: 0, ...sample, ...own };
}

function record(own: Partial<RequestRecord>): RequestRecord {
  return {
    stream: 0,
    tenant: "t",
    model: "m",
    dueMs: 0,
    sentMs: 0,
    endedMs: 1000,
    chunkMs: Float64Array.from({ length: 64 }, (_, index) => 100 + 10 * index),
    promptTokens: 60,
    outputTokens: 64,
    outcome: "finished",
    error: null,
    ...own,
  };
}

test("the middle of samples", () => {
  assert.equal(median([5, 1, 3]), 3);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.ok(Number.isNaN(median([])));
});

test("the best peer of medians is what ours is compared with", () => {
  const [row] = rowsOf(
    [
      ...[90, 100, 500].map((speed) => result("us", speed)),
      ...[10, 20, 30].map((speed) => result("slow", speed)),
      ...[26, 25, 24].map((speed) => result("fast", speed)),
    ],
    "us",
  );
  assert.equal(row!.ratio, 4);
  assert.equal(row!.goal, 4);
  assert.deepEqual(row!.speeds.get("slow"), { speed: 20, rounds: 3 });
});

test("precisions are never compared with each other, and one contestant alone with nobody", () => {
  const rows = rowsOf([result("us", 8), result("peer", 4), result("peer", 2, { bits: 8 })], "us");
  assert.deepEqual(
    rows.map(({ bits, ratio }) => [bits, ratio]),
    [
      [4, 2],
      [8, null],
    ],
  );
});

test("goals are those of the issue", () => {
  const goals = cellsFor([1, 4, 8, 16]).map((cell): [string, number | null] => [cell.name, goalOf(cell)]);
  assert.deepEqual(
    goals.filter(([, goal]) => goal !== null),
    [
      ["1 client, no adapter", 1.15],
      ["8 clients, no adapter", 1.5],
      ["16 clients, no adapter", 1.5],
      ["8 clients, an adapter each", 4],
      ["16 clients, an adapter each", 4],
      ["prefill of 512 tokens", 1.3],
    ],
  );
});

test("clients ask for the adapters that the cell says", () => {
  const models = { base: "b", adapters: ["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8"] };
  const asked = (cell: Cell) =>
    Array.from({ length: cell.clients }, (_, client) => {
      const workload = { seed: 0, durationMs: 1, streams: [streamOf(cell, models)] };
      return endlessRequests(workload, 0, client).next().value.model;
    });
  assert.deepEqual(asked(each), models.adapters.slice(0, 8));
  assert.deepEqual(new Set(asked(cellNamed("8 clients, one adapter"))), new Set(["x0"]));
  assert.deepEqual(new Set(asked(cellNamed("8 clients, no adapter"))), new Set(["b"]));
});

test("who has no adapters is in the cells without them", () => {
  const names = cells.filter((cell) => isFor(cell, { adapters: [] })).map(({ name }) => name);
  assert.deepEqual(names, ["1 client, no adapter", "8 clients, no adapter", "prefill of 512 tokens"]);
  assert.ok(cells.every((cell) => isFor(cell, { adapters: ["a"] })));
});

test("before a cell is measured, its rows and adapters were all there at once", () => {
  const { clients, adapters, promptTokens } = warmUpOf(each);
  assert.deepEqual([clients, adapters, promptTokens], [8, "each", each.promptTokens]);
  assert.ok(warmUpOf(each).outputTokens < each.outputTokens);
  assert.equal(warmUpOf(cellNamed("prefill of 512 tokens")).outputTokens, 1);
});

test("all answers count from the first request to the last end", () => {
  const { figures, firstTokenMs, promptTokens } = sampleOf(
    [record({ sentMs: 0, endedMs: 1500 }), record({ sentMs: 500, endedMs: 2000, dueMs: 500 })],
    each,
    null,
  );
  assert.equal(figures.throughput, 64); // 128 tokens in 2 s
  assert.equal(figures.decode, 100); // 10 ms a token
  assert.equal(firstTokenMs, (100 - 400) / 2);
  assert.equal(promptTokens, 120);
});

test("an answer that failed or is shorter than asked is no measurement", () => {
  assert.throws(() => sampleOf([record({ outputTokens: 63 })], each, null), /finished with 63 tokens/);
  assert.throws(() => sampleOf([record({ outcome: "failed", error: "500" })], each, null), /failed .*500/);
});

test("runs are joined into one table that says where each came from", () => {
  const run = (commit: string, results: readonly Result[]): Run => ({
    headers: [
      {
        startedAt: "2026-01-01T00:00:00Z",
        command: "npm run peers --",
        commit,
        machine: "M",
        loadAverage: 1,
        node: "v24",
        readBytesPerSecond: 20e9,
      },
    ],
    settings: { us: "fast", peer: "slow" },
    results,
  });
  const text = markdown(
    joined([run("c1", [result("us", 50), result("peer", 10)]), run("c2", [result("us", 30)])]),
    "us",
  );
  assert.match(text, /commit c1;.*memory read at 20\.0 GB\/s.*commit c2;/s);
  assert.match(
    text,
    /\| s \| 4 \| 8 clients, an adapter each \| 40\.0 \(2\) \| 10\.0 \(1\) \| 4\.00 \| 4 \| met \|/,
  );
});
