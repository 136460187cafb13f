// What rows, groups, moves, the budget and the prefix cache must not change: a sequence's bits. Each is compared
// with the same sequence alone, from its first token, on a runner of its own. Rounding is checked as in
// tests/batch-invariance.test.ts: to the bit on the processor that was measured.

import assert from "node:assert/strict";
import { test } from "node:test";
import { goldenCase, openGolden, temporaryCache } from "../../tests/golden/golden-case.ts";
import { isMeasuredProcessor } from "../../tests/measured-processor.ts";
import type { BaseModel } from "../base-model.ts";
import { KvMemoryError } from "../errors.ts";
import { adapterTargets } from "../model-family.ts";
import type { ModelRunner } from "../model-runner.ts";
import { randomAdapter } from "../random-adapter.ts";
import type { Feeds, Session } from "../session.ts";
import { CpuRunner } from "./cpu-runner.ts";

type Request = { readonly id: string; readonly adapter: string | null; readonly tokenIds: readonly number[] };

const tolerance = isMeasuredProcessor ? 0 : 1e-3;
const cacheDirectory = temporaryCache();
const tokens = (seed: number, length: number) =>
  Array.from({ length }, (_, index) => 4 + ((seed * 31 + index * (7 + seed)) % 120));

const { base } = await openGolden(goldenCase("llama"), { cacheDirectory });
const requests: readonly Request[] = [
  { id: "a", adapter: null, tokenIds: tokens(1, 90) },
  { id: "b", adapter: "one", tokenIds: tokens(2, 100) },
  { id: "c", adapter: "two", tokenIds: tokens(3, 150) },
  { id: "d", adapter: "one", tokenIds: tokens(4, 900) },
  { id: "e", adapter: null, tokenIds: tokens(5, 30) },
];
const alone = new Map<string, Float32Array[]>();
for (const request of requests) {
  const runner = openRunner(base);
  alone.set(request.id, [
    await prefill(runner, request),
    ...(await decode(runner, [request], 60)).get(request.id)!,
  ]);
}

type Options = { readonly maxKvBytes?: number; readonly maxPrefixBytes?: number };

function openRunner(of: BaseModel, options: Options = {}): CpuRunner {
  const runner = new CpuRunner(of, { maxRows: 8, maxContext: 1024, ...options });
  for (const [seed, version] of ["one", "two"].entries()) {
    runner.addAdapter(version, randomAdapter(adapterTargets(of.config), 4 + seed, seed));
  }
  return runner;
}

/** @returns the prompt's last logits */
async function prefill(
  runner: ModelRunner,
  { id, adapter, tokenIds }: Request,
  scope?: string,
): Promise<Float32Array> {
  const prefix = scope === undefined ? null : { scope, tokenIds };
  const { cachedTokens } = runner.open(id, { adapterVersion: adapter, prefix });
  return finishPrefill(runner, { id, tokenIds, from: cachedTokens });
}

async function finishPrefill(
  runner: ModelRunner,
  {
    id,
    tokenIds,
    from,
  }: { readonly id: string; readonly tokenIds: readonly number[]; readonly from: number },
): Promise<Float32Array> {
  let last = new Float32Array(0);
  for (let at = from; at < tokenIds.length; at += 128) {
    const chunk = tokenIds.slice(at, at + 128);
    last = (
      await runner.prefill({ sequence: id, tokenIds: chunk, promptLength: tokenIds.length, logits: "last" })
    ).data.slice();
  }
  return last;
}

/** Tokens are the same whoever decodes, so that histories can be compared. @returns logits by request and step */
async function decode(
  runner: ModelRunner,
  of: readonly Request[],
  steps: number,
): Promise<Map<string, Float32Array[]>> {
  const logits = new Map<string, Float32Array[]>(of.map(({ id }) => [id, []]));
  for (let step = 0; step < steps; step++) {
    const entries = of.map(({ id }) => ({ sequence: id, tokenId: 4 + ((step * 11) % 100) }));
    const { data, vocabSize } = await runner.decode(entries);
    for (const [row, { id }] of of.entries()) {
      logits.get(id)!.push(data.slice(row * vocabSize, (row + 1) * vocabSize));
    }
  }
  return logits;
}

function assertAsAlone(id: string, step: number, logits: Float32Array): void {
  const expected = alone.get(id)![step]!;
  const worst = logits.reduce((max, value, index) => Math.max(max, Math.abs(value - expected[index]!)), 0);
  assert.ok(worst <= tolerance, `${id}, step ${step}: ${worst}`);
}

/** The same model on a clock that says what a run costs, so that a test decides what is worth grouping. */
function onClock(costOf: (rows: number, capacity: number) => number): { base: BaseModel; runs: string[] } {
  let runMs = 0;
  const runs: string[] = [];
  const session = {
    get runMs() {
      return runMs;
    },
    run: async (feeds: Feeds) => {
      const [rows, , , capacity] = feeds["past.k.0"]!.dims as [number, number, number, number, number];
      runMs += costOf(rows, capacity);
      runs.push(`${rows}x${capacity}`);
      return base.session.run(feeds);
    },
  };
  const clocked = new Proxy(base, {
    get(target, name) {
      if (name === "session") return session as unknown as Session;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return { base: clocked, runs };
}

for (const [name, costOf, isApart] of [
  ["runs are dear: all rows together", () => 1000, false],
  ["tokens are dear: rows apart", (rows: number, capacity: number) => 1e-4 + rows * capacity * 5e-5, true],
] as const) {
  test(`rows of several lengths decode as alone, ${name}`, async () => {
    const clock = onClock(costOf);
    const runner = openRunner(clock.base);
    for (const request of requests) assertAsAlone(request.id, 0, await prefill(runner, request));
    clock.runs.length = 0;
    for (const [id, logits] of await decode(runner, requests, 60)) {
      for (const [step, row] of logits.entries()) assertAsAlone(id, step + 1, row);
    }
    const last = clock.runs.slice(-3).join(" ");
    if (isApart) assert.match(last, /1x1024$/);
    else assert.equal(clock.runs.at(-1), "5x1024");
    assert.equal(clock.runs.slice(-10).includes("5x1024"), !isApart);
  });
}

test("rows that come, go and are left out of steps decode as alone", async () => {
  const runner = openRunner(onClock((rows, capacity) => 0.02 + rows * 1e-3 + rows * capacity * 5e-5).base);
  const done = new Map<string, number>();
  const open: Request[] = [];
  for (let step = 0; step < 90; step++) {
    if (step % 6 === 0 && step / 6 < requests.length) {
      const request = requests[step / 6]!;
      assertAsAlone(request.id, 0, await prefill(runner, request));
      open.push(request);
      done.set(request.id, 0);
    }
    const due = open.filter((_, index) => (step + index) % 3 > 0).toReversed();
    if (due.length === 0) continue;
    const entries = due.map(({ id }) => ({ sequence: id, tokenId: 4 + ((done.get(id)! * 11) % 100) }));
    const { data, vocabSize } = await runner.decode(entries);
    for (const [row, { id }] of due.entries()) {
      done.set(id, done.get(id)! + 1);
      assertAsAlone(id, done.get(id)!, data.subarray(row * vocabSize, (row + 1) * vocabSize));
      if (done.get(id) !== 20 + (id.charCodeAt(0) % 3)) continue;
      runner.close(id);
      open.splice(
        open.findIndex((request) => request.id === id),
        1,
      );
    }
  }
  assert.deepEqual(open, []);
  assert.equal(runner.stats().kvBytesUsed, 0);
  assert.equal(runner.stats().kvTokensUsed, 0);
});

test("a prompt whose beginning is cached computes the same bits", async () => {
  const runner = openRunner(base, { maxPrefixBytes: 1 << 28 });
  for (const [expected, request] of [
    [0, requests[3]!],
    [896, { ...requests[3]!, id: "again" }],
    [128, { ...requests[2]!, id: "shorter", adapter: "one", tokenIds: requests[3]!.tokenIds.slice(0, 129) }],
    [0, { ...requests[3]!, id: "other adapter", adapter: "two" }],
    [0, { ...requests[3]!, id: "base", adapter: null }],
  ] as const) {
    const { id, adapter, tokenIds } = request;
    const { cachedTokens } = runner.open(id, {
      adapterVersion: adapter,
      prefix: { scope: "tenant", tokenIds },
    });
    assert.equal(cachedTokens, expected, id);
    const logits = await finishPrefill(runner, { id, tokenIds, from: cachedTokens });
    if (id === "d" || id === "again") assertAsAlone("d", 0, logits);
  }
  for (const row of (await decode(runner, [{ ...requests[3]!, id: "again" }], 20)).get("again")!.entries()) {
    assertAsAlone("d", row[0] + 1, row[1]);
  }
  const stranger = {
    adapterVersion: "one",
    prefix: { scope: "another tenant", tokenIds: requests[3]!.tokenIds },
  };
  assert.equal(runner.open("stranger", stranger).cachedTokens, 0);
  runner.close("stranger");
  assert.equal(runner.stats().prefixHitTokens, 896 + 128);
  for (const id of ["d", "again", "shorter"]) runner.close(id);
  const { prefixBytes } = runner.stats();
  runner.removeAdapter("one");
  assert.ok(runner.stats().prefixBytes < prefixBytes);
  runner.addAdapter("one", randomAdapter(adapterTargets(base.config), 4, 9));
  const tenant = { ...stranger, prefix: { ...stranger.prefix, scope: "tenant" } };
  assert.equal(runner.open("reloaded", tenant).cachedTokens, 0);
});

test("what has no adapter runs in the graph without them, unless a row beside it has one", async () => {
  const runner = openRunner(base);
  const plain = base.plainSession!;
  const ranPlain = async (work: () => Promise<unknown>) => {
    const [plainMs, otherMs] = [plain.runMs, base.session.runMs];
    await work();
    const isPlain = plain.runMs > plainMs;
    assert.notEqual(base.session.runMs > otherMs, isPlain);
    return isPlain;
  };
  const [one, other] = [requests[0]!, requests[1]!];
  assert.equal(await ranPlain(() => prefill(runner, one)), true);
  assert.equal(await ranPlain(() => prefill(runner, other)), false);
  let beside: Map<string, Float32Array[]> | null = null;
  const together = async () => {
    beside = await decode(runner, [one, other], 1);
  };
  assert.equal(await ranPlain(together), false);
  assertAsAlone(one.id, 1, beside!.get(one.id)![0]!); // which ran in the plain one
  assert.equal(await ranPlain(() => decode(runner, [one], 1)), true);
});

test("only whole blocks from the start are kept; a sequence without a scope keeps and finds nothing", async () => {
  const runner = openRunner(base, { maxPrefixBytes: 1 << 28 });
  const { tokenIds } = requests[3]!;
  const prefix = { scope: "tenant", tokenIds };
  await prefill(runner, { id: "private", adapter: null, tokenIds });
  runner.open("odd", { adapterVersion: null, prefix });
  for (const [from, to] of [
    [0, 100],
    [100, 228],
    [228, 900],
  ]) {
    const chunk = { tokenIds: tokenIds.slice(from, to), promptLength: 900 };
    await runner.prefill({ sequence: "odd", ...chunk, logits: "none" });
  }
  assert.equal(runner.stats().prefixBytes, 0);
});

test("prompts beyond the original context of dynamic scaling share nothing", async () => {
  const { base: dynamic } = await openGolden(goldenCase("llama-rope-dynamic"), { cacheDirectory });
  const runner = openRunner(dynamic, { maxPrefixBytes: 1 << 28 });
  const request = { adapter: null, tokenIds: tokens(1, 300) };
  await prefill(runner, { ...request, id: "first" }, "tenant");
  assert.equal(runner.stats().prefixBytes, 0);
  const prefix = { scope: "tenant", tokenIds: request.tokenIds };
  assert.equal(runner.open("second", { adapterVersion: null, prefix }).cachedTokens, 0);
});

test("memory that is not there is refused, and nothing has changed", async () => {
  const probe = openRunner(base);
  const maxKvBytes = probe.kvBytesOf(1024) + probe.kvBytesOf(192);
  const runner = openRunner(base, { maxKvBytes });
  const [short, long] = [requests[1]!, requests[3]!];
  await prefill(runner, short);
  await prefill(runner, long);
  const other = { adapterVersion: null, prefix: { scope: "tenant", tokenIds: tokens(1, 128) } };
  assert.throws(() => runner.open("other", other), KvMemoryError);
  assert.equal(runner.isOpen("other"), false);
  let step = 0;
  for (; step < 92; step++) {
    const logits = await decode(runner, [short, long], 1);
    if (step === 0) for (const { id } of [short, long]) assertAsAlone(id, 1, logits.get(id)![0]!);
  }
  assert.equal(runner.stats().kvBytesUsed, maxKvBytes);
  assert.equal(runner.stats().kvBytesCapacity, maxKvBytes);
  await assert.rejects(decode(runner, [long, short], 1), { code: "kv_memory_exhausted" });
  assert.equal(runner.stats().kvTokensUsed, 100 + 900 + 2 * 92);
  runner.close(short.id);
  await decode(runner, [long], 1);
});
