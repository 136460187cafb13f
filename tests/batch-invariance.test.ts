// What a request computes does not depend on who shares its batch: its logits, alone and beside any neighbours, are
// the same bits. Measured on x86-64 with AVX-512, where the test demands it; elsewhere the runtime may choose other
// kernels for other row counts, and the difference is only bounded.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { describeCheckpoint, openBaseModel } from "../kernels/base-model.ts";
import { CpuRunner } from "../kernels/cpu/cpu-runner.ts";
import { adapterTargets } from "../kernels/model-family.ts";
import type { MatrixEncoding } from "../kernels/prepare/layout.ts";
import { randomAdapter } from "../kernels/random-adapter.ts";
import { argmax } from "../kernels/sampling/logprobs.ts";
import { isMeasuredProcessor } from "./measured-processor.ts";

type Request = { readonly id: string; readonly adapter: string | null; readonly prompt: readonly number[] };

type OnCpu = Exclude<MatrixEncoding, "float16">;
const tolerances = { float32: 1e-4, int8: 0.05, int4: 0.3 } as const satisfies Record<OnCpu, number>;
const steps = 6;
const chunkTokens = 16;
const cacheDirectory = mkdtempSync(join(tmpdir(), "cotenant-invariance-"));
after(() => rmSync(cacheDirectory, { recursive: true }));

const prompt = (seed: number, length: number) =>
  Array.from({ length }, (_, index) => 4 + ((seed * 31 + index * (7 + seed)) % 150));

/** Distinct, shared and absent adapters; lengths on both sides of a KV bucket and of a chunk. */
const requests: readonly Request[] = [
  { id: "base", adapter: null, prompt: prompt(1, 5) },
  { id: "alone on its adapter", adapter: "small", prompt: prompt(2, 40) },
  { id: "shared 1", adapter: "wide", prompt: prompt(3, 16) },
  { id: "shared 2", adapter: "wide", prompt: prompt(4, 17) },
  { id: "shared 3", adapter: "wide", prompt: prompt(5, 33) },
  { id: "longest", adapter: "large", prompt: prompt(6, 125) },
  { id: "base again", adapter: null, prompt: prompt(7, 130) },
];

for (const checkpoint of ["llama", "gemma3"]) {
  for (const encoding of Object.keys(tolerances) as OnCpu[]) {
    test(`${checkpoint}, ${encoding}: the same logits alone and in every company`, async () => {
      const runner = await openRunner(checkpoint, encoding);
      const alone = new Map<string, Float32Array[]>();
      for (const request of requests) alone.set(request.id, (await run(runner, [request])).get(request.id)!);
      const companies = [
        requests,
        requests.toReversed(),
        requests.slice(0, 2),
        requests.slice(2, 5),
        requests.slice(2, 6),
      ];
      for (const company of companies) {
        for (const [id, logits] of await run(runner, company)) {
          for (const [step, row] of logits.entries()) {
            const difference = largestDifference(row, alone.get(id)![step]!);
            const limit = isMeasuredProcessor ? 0 : tolerances[encoding];
            assert.ok(
              difference <= limit,
              `${id}, step ${step}, beside ${company.length - 1}: ${difference}`,
            );
          }
        }
      }
      await runner.dispose();
    });
  }
}

test("an adapter that overflows spoils its own row only", async () => {
  const runner = await openRunner("llama", "float32");
  const targets = adapterTargets(describeCheckpoint(directoryOf("llama")).config);
  const { out } = targets.shapes.q;
  const [scale, shift] = [new Float32Array(out).fill(1.1), null];
  runner.addAdapter("scaled", { modules: [{ kind: "scale", layer: 0, projection: "q", scale, shift }] });
  const withoutRanks = { id: "without ranks", adapter: "scaled", prompt: prompt(9, 8) };
  const healthy = [withoutRanks, ...requests.filter(({ id }) => !["shared 1", "base again"].includes(id))];
  const alone = await run(runner, healthy);
  const diverged = randomAdapter(targets, 12, 5).modules.map((module) =>
    module.kind === "low-rank" ? { ...module, b: module.b.map(() => Number.POSITIVE_INFINITY) } : module,
  );
  runner.addAdapter("diverged", { modules: diverged });
  const spoiled = { id: "spoiled", adapter: "diverged", prompt: prompt(8, 9) };
  const together = await run(runner, [spoiled, ...healthy]);
  assert.ok(together.get("spoiled")!.at(-1)!.some(Number.isNaN));
  for (const { id } of healthy) {
    for (const [step, logits] of together.get(id)!.entries()) {
      assert.ok(
        largestDifference(logits, alone.get(id)![step]!) <= (isMeasuredProcessor ? 0 : tolerances.float32),
        id,
      );
    }
  }
  await runner.dispose();
});

const directoryOf = (checkpoint: string) => new URL(`golden/cases/${checkpoint}`, import.meta.url).pathname;

async function openRunner(checkpoint: string, encoding: MatrixEncoding): Promise<CpuRunner> {
  const modelDirectory = directoryOf(checkpoint);
  const base = await openBaseModel({ modelDirectory, cacheDirectory, encoding, threads: 1, onProgress() {} });
  const runner = new CpuRunner(base, { maxRows: requests.length, maxContext: 512 });
  const targets = adapterTargets(base.config);
  for (const [name, rank] of Object.entries({ small: 3, wide: 8, large: 300 })) {
    runner.addAdapter(name, randomAdapter(targets, rank, rank));
  }
  return runner;
}

/** Prefills one after the other, then decodes greedily together; logits of every step by request. */
async function run(runner: CpuRunner, company: readonly Request[]): Promise<Map<string, Float32Array[]>> {
  const logits = new Map<string, Float32Array[]>();
  for (const { id, adapter, prompt } of company) {
    runner.open(id, { adapterVersion: adapter, prefix: null });
    for (let at = 0; at < prompt.length; at += chunkTokens) {
      const tokenIds = prompt.slice(at, at + chunkTokens);
      const chunk = { sequence: id, tokenIds, promptLength: prompt.length, logits: "last" } as const;
      logits.set(id, [(await runner.prefill(chunk)).data.slice()]);
    }
  }
  for (let step = 0; step < steps; step++) {
    const entries = company.map(({ id }) => ({ sequence: id, tokenId: argmax(logits.get(id)!.at(-1)!) }));
    const { data, vocabSize } = await runner.decode(entries);
    for (const [row, { id }] of company.entries()) {
      logits.get(id)!.push(data.slice(row * vocabSize, (row + 1) * vocabSize));
    }
  }
  for (const { id } of company) runner.close(id);
  return logits;
}

function largestDifference(one: Float32Array, other: Float32Array): number {
  return one.reduce((max, value, index) => Math.max(max, Math.abs(value - other[index]!)), 0);
}
