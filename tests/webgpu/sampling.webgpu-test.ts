// Draws on the device: from what it tells of a row, every kind of sampling draws what it draws from the whole row,
// and a step of 16 rows brings few bytes over the bus.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { blendLogits, divergence } from "../../kernels/sampling/blend.ts";
import { type LogitsQuery, scoreQuery } from "../../kernels/sampling/logits-query.ts";
import { randomAt } from "../../kernels/sampling/random.ts";
import {
  type Draw,
  greedySampling,
  Sampler,
  type SamplerOptions,
  scoreToken,
} from "../../kernels/sampling/sampler.ts";
import { GpuBlends } from "../../kernels/webgpu/gpu-blends.ts";
import { GpuLogits } from "../../kernels/webgpu/gpu-logits.ts";
import { GpuAllocator } from "../../kernels/webgpu/gpu-session.ts";

const vocabSize = 5000; // 40 blocks, the last one with room
const tolerance = 1e-4;
const bus = { bytes: 0, runMs: 0 };
const allocator = await GpuAllocator.open(bus);
const device = await GpuLogits.open(vocabSize, allocator, bus);
const blends = new GpuBlends(vocabSize, allocator, bus);
after(async () => {
  await blends.close();
  await device.close();
  await allocator.close();
});

const warm: SamplerOptions = { ...greedySampling, temperature: 1 };
const penalties = { repetitionPenalty: 1.3, presencePenalty: 0.4, frequencyPenalty: 0.2 };
const kinds: Readonly<Record<string, SamplerOptions>> = {
  greedy: greedySampling,
  "a temperature": warm,
  "a high temperature": { ...warm, temperature: 3 },
  top_p: { ...warm, topP: 0.8 },
  "a top_p of many tokens": { ...warm, temperature: 2, topP: 0.95 },
  min_p: { ...warm, minP: 0.02 },
  "min_p and top_p": { ...warm, minP: 0.02, topP: 0.7 },
  top_k: { ...warm, topK: 40, topP: 0.9 },
  "greedy with penalties": { ...greedySampling, ...penalties },
  "a temperature with penalties": { ...warm, ...penalties },
  "top_p with penalties": { ...warm, ...penalties, topP: 0.8 },
  "a temperature with a bias": {
    ...warm,
    logitBias: [
      [4999, 14],
      [17, -100],
    ],
  },
};
const names = Object.keys(kinds);
const rows = names.length;

/** Few tokens weigh much, and many a little. */
function someLogits(step: number): Float32Array {
  return Float32Array.from({ length: rows * vocabSize }, (_, index) => {
    const random = randomAt(step, index);
    return 12 * random ** 6 - 4 * randomAt(step + 1000, index);
  });
}

const rowOf = (logits: Float32Array, row: number) => logits.slice(row * vocabSize, (row + 1) * vocabSize);
const asked = (queries: readonly (LogitsQuery | null)[]) => queries.map((query, row) => ({ row, query }));

async function resultsOf(logits: Float32Array, queries: readonly (LogitsQuery | null)[]) {
  const buffer = await allocator.upload(logits);
  const results = await device.results(buffer.view([rows, vocabSize]), asked(queries));
  buffer.dispose();
  return results;
}

function assertSame(found: Draw, expected: Draw, what: string): void {
  assert.equal(found.tokenId, expected.tokenId, what);
  assert.equal(found.logprob === null, expected.logprob === null, what);
  if (expected.logprob === null) return;
  assert.ok(Math.abs(found.logprob! - expected.logprob) <= tolerance, what);
  assert.deepEqual(
    found.top.map(([id]) => id),
    expected.top.map(([id]) => id),
    what,
  );
  for (const [rank, [, logprob]] of found.top.entries()) {
    assert.ok(Math.abs(logprob - expected.top[rank]![1]) <= tolerance, what);
  }
}

/** Of 64 KB at 16 rows; what a step needs otherwise is 12 KB. */
const mostDrawBytes = 48 * 1024;

test("each kind of sampling, together in a step, draws what it draws from whole rows", async () => {
  const prompt = Array.from({ length: 30 }, (_, index) => index * 7);
  const samplers = () => names.map((name, seed) => new Sampler({ ...kinds[name]!, seed }, prompt));
  const [told, whole] = [samplers(), samplers()];
  for (let step = 0; step < 4; step++) {
    const logits = someLogits(step);
    const banned = step === 1 ? [3, 4999] : [];
    const countOf = (row: number) => (row % 3 === step % 3 ? 3 : null);
    const results = await resultsOf(
      logits,
      told.map((sampler, row) => sampler.query(countOf(row), banned)),
    );
    for (const [row, name] of names.entries()) {
      const expected = rowOf(logits, row);
      assertSame(
        told[row]!.draw(results[row]!, countOf(row), banned),
        whole[row]!.draw(expected, countOf(row), banned),
        `${name}, step ${step}`,
      );
    }
  }
});

test("whole rows cross where nothing less suffices, as they were", async () => {
  const logits = someLogits(9);
  const flat = { ...warm, temperature: 100, topP: 0.9 };
  const queries = names.map((_, row) => (row === 2 ? new Sampler(flat, []).query(null, []) : null));
  for (const [row, found] of (await resultsOf(logits, queries)).entries()) {
    assert.deepEqual(found, rowOf(logits, row));
  }
});

test("tokens of a prompt are scored as from whole rows", async () => {
  const logits = someLogits(6);
  const scored = names.map((_, row) => ({ tokenId: (row * 977) % vocabSize, count: row % 4 }));
  const queries = scored.map(({ tokenId, count }) => scoreQuery(tokenId, count));
  for (const [row, found] of (await resultsOf(logits, queries)).entries()) {
    const { tokenId, count } = scored[row]!;
    const expected = scoreToken(rowOf(logits, row), tokenId, count);
    assertSame(scoreToken(found, tokenId, count), expected, `row ${row}`);
  }
});

/** Rows of the logits on the device, one of them of a neighbour with numbers that spoil whatever they are added to. */
async function withRun<Result>(
  logits: Float32Array,
  use: (view: Awaited<ReturnType<GpuLogits["place"]>>) => Promise<Result>,
): Promise<Result> {
  const buffer = await allocator.upload(logits);
  const result = await use(buffer.view([logits.length / vocabSize, vocabSize]));
  buffer.dispose();
  return result;
}

test("blends of rows of several runs draw as the blended rows do, beside a neighbour that is not a number", async () => {
  const [one, other] = [someLogits(20), someLogits(21)];
  one.fill(Number.NaN, 3 * vocabSize, 4 * vocabSize);
  // By sum: rows of the first run, then rows of the second.
  const members = [
    { first: [[0, 0.5]], second: [[2, 0.5]] },
    {
      first: [
        [1, 1],
        [2, 2],
        [4, -1.5],
      ],
      second: [],
    },
    { first: [], second: [[0, 1.25]] },
  ] as const;
  const added = (side: "first" | "second") =>
    members.flatMap((member, sum) => member[side].map(([row, weight]) => ({ row, sum, weight })));
  for (let step = 0; step < 2; step++) {
    // What the sums were before does not matter.
    await blends.begin(members.length);
    await withRun(one, (view) => blends.add(view, added("first")));
    await withRun(other, (view) => blends.add(view, added("second")));
  }
  const options = { ...warm, topP: 0.8, repetitionPenalty: 1.3 };
  const samplers = () => members.map((_, seed) => new Sampler({ ...options, seed }, [1, 2, 3]));
  const [told, whole] = [samplers(), samplers()];
  const found = await device.results(blends.sums, asked(told.map((sampler) => sampler.query(2, []))));
  for (const [sum, { first, second }] of members.entries()) {
    const all = [
      ...first.map((row) => [one, ...row] as const),
      ...second.map((row) => [other, ...row] as const),
    ];
    const expected = blendLogits(
      all.map(([logits, row]) => rowOf(logits, row)),
      all.map(([, , weight]) => weight),
    );
    assertSame(told[sum]!.draw(found[sum]!, 2, []), whole[sum]!.draw(expected, 2, []), `sum ${sum}`);
  }
});

test("rows of two runs are as far apart as on the host, and by no more than a few bytes", async () => {
  const ones = someLogits(30).slice(0, 4 * vocabSize);
  const others = ones.map((logit, index) => logit + 0.3 * randomAt(31, index));
  others.set(rowOf(ones, 2), 2 * vocabSize);
  others[3 * vocabSize + 77] = 40; // another likeliest token
  await blends.begin(4);
  for (const first of [0, 2]) {
    // A chunk in two pieces.
    const piece = ones.slice(first * vocabSize, (first + 2) * vocabSize);
    const rows = [0, 1].map((row) => ({ row, sum: first + row, weight: 1 }));
    await withRun(piece, (view) => blends.add(view, rows));
  }
  const before = bus.bytes;
  const found = await withRun(others, (view) => blends.divergences(view, 0));
  assert.ok(bus.bytes - before - others.byteLength <= 4 * 48, `${bus.bytes - before}`);
  for (const [row, { kl, isSameTop }] of found.entries()) {
    const expected = divergence(rowOf(ones, row), rowOf(others, row));
    assert.equal(isSameTop, expected.isSameTop, `row ${row}`);
    assert.ok(Math.abs(kl - expected.kl) <= 1e-5 * Math.max(1, expected.kl), `${kl}, ${expected.kl}`);
  }
  assert.deepEqual(found[2], { kl: 0, isSameTop: true }); // to the bit: the same rows are no distance apart
  const [later] = await withRun(others.slice(vocabSize, 2 * vocabSize), (view) =>
    blends.divergences(view, 1),
  );
  assert.ok(Math.abs(later!.kl - found[1]!.kl) <= 1e-5, `${later!.kl}, ${found[1]!.kl}`);
});

test("a step of 16 rows brings at most 64 KB over the bus, however they are sampled", async () => {
  const prompt = Array.from({ length: 40 }, (_, index) => index);
  const likely = Float32Array.from({ length: 16 * vocabSize }, (_, index) => 16 * randomAt(5, index) ** 40);
  const buffer = await allocator.upload(likely);
  const logits = buffer.view([16, vocabSize]);
  for (const name of ["a temperature", "top_k", "top_p with penalties", "a temperature with penalties"]) {
    const query = new Sampler(kinds[name]!, prompt).query(null, []);
    const before = bus.bytes;
    await device.results(logits, asked(new Array<LogitsQuery | null>(16).fill(query)));
    assert.ok(bus.bytes - before <= mostDrawBytes, `${name}: ${bus.bytes - before} bytes`);
  }
  buffer.dispose();
});

test("neither do blends of 16 rows, nor 64 tokens of a prompt that are scored", async () => {
  const logits = Float32Array.from({ length: 64 * vocabSize }, (_, index) => 16 * randomAt(8, index) ** 40);
  const buffer = await allocator.upload(logits);
  const query = new Sampler(kinds["top_p with penalties"]!, [1, 2, 3]).query(3, []);
  let before = bus.bytes;
  await blends.begin(8);
  const rows16 = Array.from({ length: 16 }, (_, row) => ({ row, sum: row >> 1, weight: 0.5 }));
  await blends.add(buffer.view([16, vocabSize]), rows16);
  await device.results(blends.sums, asked(new Array<LogitsQuery | null>(8).fill(query)));
  assert.ok(bus.bytes - before <= mostDrawBytes, `${bus.bytes - before} bytes`);
  before = bus.bytes;
  const queries = Array.from({ length: 64 }, (_, row) => scoreQuery(row, 20));
  await device.results(buffer.view([64, vocabSize]), asked(queries));
  assert.ok(bus.bytes - before <= mostDrawBytes, `${bus.bytes - before} bytes`);
  buffer.dispose();
});
