// Rows with different adapters in one batch on WebGPU against the same requests alone on the CPU: ranks over several
// slots, rows that join, outgrow their arena, leave and are replaced, adapters that are swapped, and one that
// overflows. CPU and WebGPU sum in different orders; what that makes is bounded by `tolerance`.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { DecodedAdapter } from "../../kernels/adapter.ts";
import { CpuRunner } from "../../kernels/cpu/cpu-runner.ts";
import { KvMemoryError } from "../../kernels/errors.ts";
import { adapterTargets } from "../../kernels/model-family.ts";
import type { ModelRunner } from "../../kernels/model-runner.ts";
import { topIndices } from "../../kernels/sampling/logprobs.ts";
import {
  distance,
  goldenCase,
  logitRow,
  logSoftmax,
  openGolden,
  temporaryCache,
} from "../golden/golden-case.ts";
import { randomAdapter } from "../golden/random-adapters.ts";
import { openWebgpuGolden, unservedAdapter } from "./open-golden.ts";

const tolerance = 2e-4; // on log-probabilities, float32
const golden = goldenCase("llama");
const cacheDirectory = temporaryCache();
const limits = { maxRows: 6, maxContext: 192 };
const { base } = await openGolden(golden, { cacheDirectory });
const targets = adapterTargets(base.config);
const adapters = new Map(
  [1, 2, 4, 5].map((index): [string, DecodedAdapter] => [`a${index}`, randomAdapter(targets, index)]),
);
const cpu = openCpu();
const runner = await openWebgpuGolden(golden, { cacheDirectory, ...limits });
for (const device of [cpu, runner])
  for (const [version, adapter] of adapters) device.addAdapter(version, adapter);

type Request = {
  readonly id: string;
  readonly version: string | null;
  readonly prompt: readonly number[];
  readonly steps: number;
};

const tokens = (seed: number, count: number) =>
  Array.from({ length: count }, (_, index) => 4 + ((seed * 31 + index * (7 + seed)) % 150));
const request = (id: string, version: string | null, length: number, steps = 4): Request => ({
  id,
  version,
  prompt: tokens(id.charCodeAt(0), length),
  steps,
});

function openCpu(): CpuRunner {
  return new CpuRunner(base, limits);
}

async function join(device: ModelRunner, { id, version, prompt }: Request): Promise<Float64Array> {
  device.open(id, { adapterVersion: version, prefix: null });
  const chunk = { sequence: id, tokenIds: prompt, promptLength: prompt.length };
  return logSoftmax(logitRow(await device.prefill({ ...chunk, logits: "last" }), 0));
}

async function step(device: ModelRunner, rows: readonly Request[], at: (row: Request) => number) {
  const entries = rows.map((row) => ({ sequence: row.id, tokenId: tokenAt(at(row)) }));
  const logits = await device.decode(entries);
  return rows.map((_, index) => logSoftmax(logitRow(logits, index)));
}

const tokenAt = (index: number) => 4 + ((index * 11) % 100);

async function alone(row: Request): Promise<Float64Array[]> {
  const found = [await join(cpu, row)];
  for (let index = 0; index < row.steps; index++) found.push(...(await step(cpu, [row], () => index)));
  cpu.close(row.id);
  return found;
}

/** Each joins when a row is free, the first `together` of them at once; each leaves after its steps. */
async function checkTogether(requests: readonly Request[], together: number): Promise<void> {
  const waiting = [...requests];
  let running: Request[] = [];
  const done = new Map<string, number>();
  const check = async (row: Request, found: Float64Array) => {
    const index = done.get(row.id) ?? 0;
    done.set(row.id, index + 1);
    const worst = distance(found, (await expectedOf(row))[index]!);
    assert.ok(worst <= tolerance, `${row.id} (${row.version}), step ${index}: ${worst}`);
  };
  while (waiting.length > 0 || running.length > 0) {
    while (running.length < together && waiting.length > 0) {
      const row = waiting.shift()!;
      await check(row, await join(runner, row));
      running.push(row);
    }
    running.reverse(); // entries come in any order
    const found = await step(runner, running, ({ id }) => done.get(id)! - 1);
    for (const [index, row] of running.entries()) await check(row, found[index]!);
    for (const row of running) if (done.get(row.id)! > row.steps) runner.close(row.id);
    running = running.filter((row) => runner.isOpen(row.id));
  }
}

const expected = new Map<Request, Promise<Float64Array[]>>();

async function expectedOf(row: Request): Promise<Float64Array[]> {
  if (!expected.has(row)) expected.set(row, alone(row));
  return expected.get(row)!;
}

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
  await checkTogether(requests, 4);
  assert.equal(runner.stats().kvTokensUsed, 0);
  assert.equal(runner.stats().kvBytesUsed, 0);
});

test("rows that are left out of a step keep what they have", async () => {
  const rows = [request("h", "a1", 6), request("i", null, 6), request("j", "a4", 6)];
  for (const row of rows) await join(runner, row);
  const done = new Map(rows.map((row) => [row, 0]));
  for (const chosen of [[0, 1, 2], [2], [1, 2], [0], [0, 2]]) {
    const stepped = chosen.map((index) => rows[index]!);
    const found = await step(runner, stepped, (row) => done.get(row)!);
    for (const [index, row] of stepped.entries()) {
      done.set(row, done.get(row)! + 1);
      const worst = distance(found[index]!, (await expectedOf(row))[done.get(row)!]!);
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
  await join(runner, spoiled);
  for (const row of healthy) await join(runner, row);
  const found = await step(runner, [spoiled, ...healthy], () => 0);
  assert.ok(found[0]!.some(Number.isNaN));
  for (const [index, row] of healthy.entries()) {
    assert.ok(distance(found[index + 1]!, (await expectedOf(row))[1]!) <= tolerance, row.id);
  }
  for (const row of [spoiled, ...healthy]) runner.close(row.id);
  runner.removeAdapter("broken");
  await checkTogether([request("n", null, 4, 2), request("o", "a4", 5, 2), request("p", null, 3, 2)], 3);
  await checkTogether([request("q", null, 4, 2)], 1); // nobody has an adapter, and slots were used
});

test("a version that replaces another serves its own weights", async () => {
  const row = request("r", "swapped", 5, 2);
  for (const index of [2, 4]) {
    for (const device of [cpu, runner]) device.addAdapter("swapped", randomAdapter(targets, index));
    expected.delete(row);
    await checkTogether([row, request("s", "a1", 4, 2)], 2);
    for (const device of [cpu, runner]) device.removeAdapter("swapped");
  }
});

test("kinds that the device does not serve are refused by name", () => {
  assert.throws(() => runner.addAdapter("scaled", unservedAdapter), {
    code: "adapter_kind_not_on_device",
    message: /scale modules/,
  });
  assert.equal(runner.hasAdapter("scaled"), false);
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

test("of a step, the most likely tokens come back where they suffice, and whole rows where not", async () => {
  const rows = [request("t", "a1", 5), request("u", null, 5), request("v", "a4", 5)];
  for (const row of rows) await join(runner, row);
  const wanted = [1, null, 5];
  const entries = rows.map(({ id: sequence }, index) => {
    const entry = { sequence, tokenId: tokenAt(0) };
    return wanted[index] === null ? entry : { ...entry, candidates: wanted[index]! };
  });
  const { data, ranked, vocabSize } = await runner.decode(entries);
  for (const [index, row] of rows.entries()) {
    const logprobs = (await expectedOf(row))[1]!;
    const told = ranked![index];
    if (wanted[index] === null) {
      assert.equal(told, null);
      assert.ok(distance(logSoftmax(data), logprobs) <= tolerance); // the only whole row
      continue;
    }
    const likely = topIndices(Float32Array.from(logprobs), wanted[index]!);
    assert.deepEqual(told!.tokenIds.slice(0, likely.length), likely);
    for (const [place, id] of likely.entries()) {
      assert.ok(Math.abs(told!.logits[place]! - told!.logSumExp - logprobs[id]!) <= tolerance);
    }
  }
  assert.equal(data.length, vocabSize);
  const before = runner.stats().busBytes;
  await runner.decode(rows.map(({ id }) => ({ sequence: id, tokenId: tokenAt(1), candidates: 1 })));
  const bytes = runner.stats().busBytes - before;
  assert.ok(bytes < ((64 * 1024) / 16) * rows.length, `${bytes} bytes for ${rows.length} rows`);
  for (const row of rows) runner.close(row.id);
  await runner.dispose();
});
