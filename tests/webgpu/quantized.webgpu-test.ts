// Quantized weights on WebGPU: what they compute is what the float32 graph computes of the same weights widened. The
// CPU's own int4 and int8 products round activations as well and are further away.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { openBaseModel, prepareBase } from "../../kernels/base-model.ts";
import { CpuRunner } from "../../kernels/cpu/cpu-runner.ts";
import type { ModelRunner } from "../../kernels/model-runner.ts";
import {
  distance,
  goldenAdapter,
  goldenCase,
  logitRow,
  logSoftmax,
  temporaryCache,
} from "../golden/golden-case.ts";
import { writeDequantizedCheckpoint } from "../golden-gradients/dequantized-checkpoint.ts";
import { openWebgpuGolden } from "./open-golden.ts";

const tolerance = 2e-4; // on log-probabilities
const golden = goldenCase("llama");
const cacheDirectory = temporaryCache();
const limits = { maxRows: 2, maxContext: 128 };
const prompt = golden.prompts[1]!;

async function logprobsOf(runner: ModelRunner): Promise<Float64Array[]> {
  const found: Float64Array[] = [];
  for (const version of [null, "wide"]) {
    runner.open(`${version}`, { adapterVersion: version, prefix: null });
    const chunk = { sequence: `${version}`, tokenIds: prompt, promptLength: prompt.length };
    found.push(logSoftmax(logitRow(await runner.prefill({ ...chunk, logits: "last" }), 0)));
  }
  const logits = await runner.decode(
    [null, "wide"].map((version) => ({ sequence: `${version}`, tokenId: 9 })),
  );
  return [...found, ...[0, 1].map((row) => logSoftmax(logitRow(logits, row)))];
}

for (const encoding of ["int4", "int8"] as const) {
  test(encoding, async () => {
    const opening = { cacheDirectory, threads: 1, onProgress: () => undefined };
    const prepared = await prepareBase({ modelDirectory: golden.directory, encoding, ...opening });
    const widened = join(cacheDirectory, `widened-${encoding}`);
    writeDequantizedCheckpoint(prepared, golden.directory, widened);
    const base = await openBaseModel({ modelDirectory: widened, encoding: "float32", ...opening });
    const cpu = new CpuRunner(base, limits);
    cpu.addAdapter("wide", goldenAdapter(golden, "wide", base));
    const expected = await logprobsOf(cpu);
    const runner = await openWebgpuGolden(golden, { cacheDirectory, encoding, ...limits });
    for (const [index, found] of (await logprobsOf(runner)).entries()) {
      const worst = distance(found, expected[index]!);
      assert.ok(worst <= tolerance, `result ${index}: ${worst}`);
    }
    await runner.dispose();
    await cpu.dispose();
  });
}
