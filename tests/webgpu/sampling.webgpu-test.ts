// Draws on the device: from what it tells of a row, every kind of sampling draws what it draws from the whole row,
// and a step of 16 rows brings few bytes over the bus.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { LogitsQuery } from "../../kernels/sampling/logits-query.ts";
import { randomAt } from "../../kernels/sampling/random.ts";
import { type Draw, greedySampling, Sampler, type SamplerOptions } from "../../kernels/sampling/sampler.ts";
import { GpuLogits } from "../../kernels/webgpu/gpu-logits.ts";
import { GpuAllocator } from "../../kernels/webgpu/gpu-session.ts";

const vocabSize = 5000; // 40 blocks, the last one with room
const tolerance = 1e-4;
const bus = { bytes: 0, runMs: 0 };
const allocator = await GpuAllocator.open(bus);
const device = await GpuLogits.open(vocabSize, allocator, bus);
after(async () => {
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

async function resultsOf(logits: Float32Array, queries: readonly (LogitsQuery | null)[]) {
  await device.place(rows);
  const buffer = await allocator.upload(logits);
  const results = await device.results(buffer.view([rows, vocabSize]), queries);
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
      const expected = logits.slice(row * vocabSize, (row + 1) * vocabSize);
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
    assert.deepEqual(found, logits.slice(row * vocabSize, (row + 1) * vocabSize));
  }
});

test("a step of 16 rows brings at most 64 KB over the bus, however they are sampled", async () => {
  const prompt = Array.from({ length: 40 }, (_, index) => index);
  await device.place(16);
  const likely = Float32Array.from({ length: 16 * vocabSize }, (_, index) => 16 * randomAt(5, index) ** 40);
  const buffer = await allocator.upload(likely);
  const logits = buffer.view([16, vocabSize]);
  for (const name of ["a temperature", "top_k", "top_p with penalties", "a temperature with penalties"]) {
    const query = new Sampler(kinds[name]!, prompt).query(null, []);
    const before = bus.bytes;
    await device.results(logits, new Array<LogitsQuery | null>(16).fill(query));
    assert.ok(bus.bytes - before <= 48 * 1024, `${name}: ${bus.bytes - before} bytes`); // the step's own: 12 KB
  }
  buffer.dispose();
});
