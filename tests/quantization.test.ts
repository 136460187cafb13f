// What weight-only quantization costs: KL divergence from float32 per family, and batched against alone. The bounds
// are 1.5 times what was measured; docs/quantization.md says on what and why these models are a worst case.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { CpuRunner } from "../kernels/cpu/cpu-runner.ts";
import { modelFamilies } from "../kernels/models/index.ts";
import type { MatrixEncoding } from "../kernels/prepare/layout.ts";
import { argmax } from "../kernels/sampling/logprobs.ts";
import {
  distance,
  goldenCase,
  logitRow,
  logSoftmax,
  openGolden,
  temporaryCache,
} from "./golden/golden-case.ts";

type OnCpu = Exclude<MatrixEncoding, "float16">;
type Quantized = Exclude<OnCpu, "float32">;

/** Mean KL(float32 || quantized) in nats over all positions of the prompts, with base and wide adapter. */
const klBounds: Readonly<Record<string, Readonly<Record<Quantized, number>>>> = {
  llama: { int8: 5.6e-3, int4: 0.44 },
  mistral: { int8: 5.3e-3, int4: 0.5 },
  qwen2: { int8: 4.3e-3, int4: 0.4 },
  qwen3: { int8: 3.0e-3, int4: 0.3 },
  gemma3: { int8: 3.3e-3, int4: 0.26 },
  phi3: { int8: 6.3e-3, int4: 0.55 },
};

/** Largest difference of a log-probability between a batch and the same request alone. */
const batchTolerance = { float32: 5e-5, int8: 2e-2, int4: 0.15 } as const satisfies Record<OnCpu, number>;

const cacheDirectory = temporaryCache();
const families = Object.keys(klBounds);

test("every model family has a bound", () => {
  const configs = families.map((name) => goldenCase(name).modelType);
  assert.deepEqual(configs.sort(), Object.keys(modelFamilies).sort());
});

for (const name of families) {
  test(`${name}: divergence from float32`, async (t) => {
    const golden = goldenCase(name);
    const exact = await distributions(name, "float32");
    for (const encoding of ["int8", "int4"] as const) {
      const quantized = await distributions(name, encoding);
      assert.equal(quantized.length, 2 * golden.prompts.flat().length);
      const mean =
        quantized.reduce((sum, q, index) => sum + divergence(exact[index]!, q), 0) / quantized.length;
      t.diagnostic(`${name} ${encoding}: ${mean.toExponential(2)} nats`);
      assert.ok(mean <= klBounds[name]![encoding], `${encoding}: mean KL is ${mean}`);
      // A quantized model that equals float32 means that nothing was quantized.
      assert.ok(mean > klBounds[name]![encoding] / 10, `${encoding}: mean KL is only ${mean}`);
    }
  });
}

for (const [encoding, tolerance] of Object.entries(batchTolerance)) {
  test(`${encoding}: twelve rows in a batch as alone, within ${tolerance}`, async (t) => {
    const { runner } = await openGolden(goldenCase("llama"), {
      cacheDirectory,
      encoding: encoding as MatrixEncoding,
    });
    const prompts = Array.from({ length: 12 }, (_, row) => promptOf(row));
    const adapters = prompts.map((_, row) => [null, "wide", "narrow"][row % 3] ?? null);
    const alone: GreedyRow[] = [];
    for (const [row, prompt] of prompts.entries())
      alone.push(...(await greedy(runner, [prompt], [adapters[row]!])));
    const together = await greedy(runner, prompts, adapters);
    let worst = 0;
    for (const [row, { tokenIds, logprobs }] of together.entries()) {
      assert.deepEqual(tokenIds, alone[row]!.tokenIds, `row ${row}`);
      for (const [step, values] of logprobs.entries()) {
        worst = Math.max(worst, distance(values, alone[row]!.logprobs[step]!));
      }
    }
    t.diagnostic(`largest difference ${worst}`);
    assert.ok(worst <= tolerance, `log-probabilities differ by ${worst}`);
    await runner.dispose();
  });
}

/** Log-probabilities after every position of every prompt, without an adapter and with the wide one. */
async function distributions(name: string, encoding: MatrixEncoding): Promise<Float64Array[]> {
  const golden = goldenCase(name);
  const { runner } = await openGolden(golden, { cacheDirectory, encoding });
  const found: Float64Array[] = [];
  for (const adapter of [null, "wide"]) {
    for (const tokenIds of golden.prompts) {
      runner.open("one", { adapterVersion: adapter, prefix: null });
      const chunk = { sequence: "one", tokenIds, promptLength: tokenIds.length };
      const logits = await runner.prefill({ ...chunk, logits: "all" });
      for (let row = 0; row < logits.count; row++) found.push(logSoftmax(logitRow(logits, row)));
      runner.close("one");
    }
  }
  await runner.dispose();
  return found;
}

/** KL(p || q) in nats, of log-probabilities. */
function divergence(p: Float64Array, q: Float64Array): number {
  return p.reduce((sum, logprob, token) => sum + Math.exp(logprob) * (logprob - q[token]!), 0);
}

type GreedyRow = { readonly tokenIds: number[]; readonly logprobs: Float64Array[] };

async function greedy(
  runner: CpuRunner,
  prompts: readonly (readonly number[])[],
  adapters: readonly (string | null)[],
): Promise<GreedyRow[]> {
  const rows: GreedyRow[] = [];
  const take = (row: number, logits: Float32Array) => {
    rows[row] ??= { tokenIds: [], logprobs: [] };
    rows[row].logprobs.push(logSoftmax(logits));
    rows[row].tokenIds.push(argmax(logits));
  };
  for (const [row, tokenIds] of prompts.entries()) {
    runner.open(`${row}`, { adapterVersion: adapters[row]!, prefix: null });
    const chunk = { sequence: `${row}`, tokenIds, promptLength: tokenIds.length };
    take(row, logitRow(await runner.prefill({ ...chunk, logits: "last" }), 0));
  }
  for (let step = 0; step < 12; step++) {
    const entries = rows.map(({ tokenIds }, row) => ({ sequence: `${row}`, tokenId: tokenIds.at(-1)! }));
    const logits = await runner.decode(entries);
    for (const row of rows.keys()) take(row, logitRow(logits, row));
  }
  for (const row of rows.keys()) runner.close(`${row}`);
  return rows;
}

function promptOf(row: number): number[] {
  return Array.from({ length: 3 + ((row * 5) % 11) }, (_, token) => 4 + ((7 * row + 13 * token) % 150));
}
