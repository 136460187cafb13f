// Rows with different adapters in one batch on WebGPU against the same requests alone on the CPU: ranks over several
// slots, rows that join, outgrow their arena, leave and are replaced, adapters that are swapped, and one that
// overflows.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { DecodedAdapter } from "../../kernels/adapter.ts";
import { CpuRunner } from "../../kernels/cpu/cpu-runner.ts";
import { KvMemoryError } from "../../kernels/errors.ts";
import { adapterTargets } from "../../kernels/model-family.ts";
import { type LogitsQuery, leastQuery } from "../../kernels/sampling/logits-query.ts";
import { topIndices } from "../../kernels/sampling/logprobs.ts";
import { distance, goldenCase, logSoftmax, openGolden, temporaryCache } from "../golden/golden-case.ts";
import { randomAdapter } from "../golden/random-adapters.ts";
import { BesideAlone, request, tokenAt, tokens, tolerance } from "./beside-alone.ts";
import { openWebgpuGolden } from "./open-golden.ts";

const golden = goldenCase("llama");
const cacheDirectory = temporaryCache();
const limits = { maxRows: 6, maxContext: 192 };
const { base } = await openGolden(golden, { cacheDirectory });
const targets = adapterTargets(base.config);
const adapters = new Map(
  [1, 2, 4, 5].map((index): [string, DecodedAdapter] => [`a${index}`, randomAdapter(targets, index)]),
);
const cpu = new CpuRunner(base, limits);
const runner = await openWebgpuGolden(golden, { cacheDirectory, ...limits });
for (const device of [cpu, runner])
  for (const [version, adapter] of adapters) device.addAdapter(version, adapter);
const beside = new BesideAlone(cpu, runner);

test("distinct, shared and absent adapters, joining and leaving, in arenas of two capacities", async () => {
  const requests = [
    request("a", "a1", 126, 6), // outgrows its arena
    request("b", null, 5, 2),
    request("c", "a2", 20),
    request("d", "a4", 7),
    request("e", "a2", 130, 3),
    request("f", "a5", 3, 5),
    request("g", null, 9, 2),
  ];
  await beside.checkTogether(requests, 4);
  assert.equal(runner.stats().kvTokensUsed, 0);
  assert.equal(runner.stats().kvBytesUsed, 0);
});

test("rows that are left out of a step keep what they have", async () => {
  const rows = [request("h", "a1", 6), request("i", null, 6), request("j", "a4", 6)];
  for (const row of rows) await beside.join(row);
  const done = new Map(rows.map((row) => [row, 0]));
  for (const chosen of [[0, 1, 2], [2], [1, 2], [0], [0, 2]]) {
    const stepped = chosen.map((index) => rows[index]!);
    const found = await beside.step(stepped, (row) => done.get(row)!);
    for (const [index, row] of stepped.entries()) {
      done.set(row, done.get(row)! + 1);
      const worst = distance(found[index]!, (await beside.expectedOf(row))[done.get(row)!]!);
      assert.ok(worst <= tolerance, `${row.id}, step ${done.get(row)}: ${worst}`);
    }
  }
  for (const row of rows) runner.close(row.id);
});

test("an adapter that overflows spoils its own row, and nobody who comes after it", async () => {
  const broken = randomAdapter(targets, 1).modules.map((module) =>
    module.kind === "low-rank" ? { ...module, b: module.b.map(() => Number.POSITIVE_INFINITY) } : module,
  );
  runner.addAdapter("broken", { modules: broken });
  const healthy = [request("k", "a2", 6, 2), request("l", null, 6, 2)];
  const spoiled = request("m", "broken", 6, 2);
  await beside.join(spoiled);
  for (const row of healthy) await beside.join(row);
  const found = await beside.step([spoiled, ...healthy], () => 0);
  assert.ok(found[0]!.some(Number.isNaN));
  for (const [index, row] of healthy.entries()) {
    assert.ok(distance(found[index + 1]!, (await beside.expectedOf(row))[1]!) <= tolerance, row.id);
  }
  for (const row of [spoiled, ...healthy]) runner.close(row.id);
  runner.removeAdapter("broken");
  await beside.checkTogether(
    [request("n", null, 4, 2), request("o", "a4", 5, 2), request("p", null, 3, 2)],
    3,
  );
  await beside.checkTogether([request("q", null, 4, 2)], 1); // nobody has an adapter, and slots were used
});

test("a version that replaces another serves its own weights", async () => {
  const row = request("r", "swapped", 5, 2);
  for (const index of [2, 4]) {
    for (const device of [cpu, runner]) device.addAdapter("swapped", randomAdapter(targets, index));
    beside.forget(row);
    await beside.checkTogether([row, request("s", "a1", 4, 2)], 2);
    for (const device of [cpu, runner]) device.removeAdapter("swapped");
  }
});

test("too many tokens for the budget change nothing", async () => {
  const small = await openWebgpuGolden(golden, {
    cacheDirectory,
    ...limits,
    maxKvBytes: runner.kvBytesOf(192),
  });
  small.open("one", { adapterVersion: null, prefix: { scope: "", tokenIds: tokens(1, 100) } });
  const used = small.stats().kvBytesUsed;
  assert.throws(
    () => small.open("two", { adapterVersion: null, prefix: { scope: "", tokenIds: tokens(1, 100) } }),
    KvMemoryError,
  );
  assert.equal(small.stats().kvBytesUsed, used);
  assert.equal(small.isOpen("two"), false);
  await small.dispose();
});

const mostLikely = (count: number): LogitsQuery => ({
  ...leastQuery,
  reported: 0,
  draw: { kind: "ranked", counts: [count], suffices: () => true },
});

test("of a step, the most likely tokens come back where they suffice, and whole rows where not", async () => {
  const rows = [request("t", "a1", 5), request("u", null, 5), request("v", "a4", 5)];
  for (const row of rows) await beside.join(row);
  const wanted = [1, null, 5];
  const entries = rows.map(({ id: sequence }, index) => {
    const entry = { sequence, tokenId: tokenAt(0) };
    return wanted[index] === null ? entry : { ...entry, query: () => mostLikely(wanted[index]!) };
  });
  const { data, known, vocabSize } = await runner.decode(entries);
  for (const [index, row] of rows.entries()) {
    const logprobs = (await beside.expectedOf(row))[1]!;
    const told = known![index];
    if (wanted[index] === null) {
      assert.equal(told, null);
      assert.ok(distance(logSoftmax(data), logprobs) <= tolerance); // the only whole row
      continue;
    }
    const likely = topIndices(Float32Array.from(logprobs), wanted[index]!);
    assert.deepEqual(told!.tokenIds.slice(0, likely.length), likely);
    for (const [place, id] of likely.entries()) {
      assert.ok(Math.abs(told!.logits[place]! - told!.report!.logSumExp - logprobs[id]!) <= tolerance);
    }
  }
  assert.equal(data.length, vocabSize);
  const before = runner.stats().busBytes;
  const query = () => leastQuery;
  await runner.decode(rows.map(({ id }) => ({ sequence: id, tokenId: tokenAt(1), query })));
  const bytes = runner.stats().busBytes - before;
  assert.ok(bytes < ((64 * 1024) / 16) * rows.length, `${bytes} bytes for ${rows.length} rows`);
  for (const row of rows) runner.close(row.id);
  await runner.dispose();
});
