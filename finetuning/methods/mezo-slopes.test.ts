// Slopes by the graph that serves against gradients through the same weights, on the embedded base, with the step that
// MeZO takes by default. Quantized bases round activations, which adds the same noise to every loss, however small the
// step is; float32 does not.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { addSigns } from "../../adapters-store/codecs/ledger.ts";
import { openBaseModel } from "../../kernels/base-model.ts";
import { CpuProbes } from "../../kernels/cpu/probes.ts";
import { adapterTargets } from "../../kernels/model-family.ts";
import { LowRankParameters } from "../../kernels/training/low-rank-parameters.ts";
import { TrainingKernel } from "../../kernels/training/training-kernel.ts";
import type { TrainingUnit } from "../../kernels/training/training-pass.ts";
import { temporaryCache } from "../../tests/golden/golden-case.ts";
import { examplesOf, smallSpec } from "../../tests/training-job-fixture.ts";
import { measureEach } from "../example-pass.ts";
import { ExamplePasses } from "../example-passes.ts";
import { servingPasses } from "../forward-passes.ts";
import { checkSettings } from "../settings.ts";
import { moduleShapes } from "./low-rank/low-rank-settings.ts";
import { mezoSettings } from "./mezo.ts";

const modelDirectory = join(import.meta.dirname, "..", "..", "models", "tiny");
const cacheDirectory = temporaryCache();
const spec = { ...smallSpec, passTokens: 256, windowTokens: 64 };
const texts = ["The printer is on fire", "My invoice is wrong", "Reset my password please", "Where is it?"];
const examples = examplesOf(
  texts.map((text) => {
    const tokens = [...Buffer.from(text)];
    return { tokens, weights: tokens.map((_, at) => Math.min(at, 1)) };
  }),
);

async function outcome<Result>(units: Generator<TrainingUnit, Result, void>): Promise<Result> {
  for (let next = units.next(); ; next = units.next()) {
    if (next.done === true) return next.value;
    await next.value.run();
  }
}

async function slopes(encoding: "float32" | "int8" | "int4") {
  const base = await openBaseModel({
    modelDirectory,
    cacheDirectory,
    encoding,
    threads: 1,
    onProgress: () => {},
  });
  const targets = adapterTargets(base.config);
  const kernel = await TrainingKernel.open(base, { threads: 1 });
  const settings = checkSettings(mezoSettings, {}, "");
  const parameters = new LowRankParameters(moduleShapes(settings, targets.layers), targets);
  addSigns(parameters.flat, { seed: 4, scalar: 0.03 }, 0);
  const forward = servingPasses(new CpuProbes(base), 64);
  const passes = new ExamplePasses({ kernel, forward, spec, examples }).of([0, 1, 2, 3]);
  const gradients = new LowRankParameters(parameters.modules, targets);
  const [pass] = passes;
  const { weight } = await outcome(pass!.differentiate(parameters.modules, gradients, 0));
  const { epsilon } = settings;
  const measured: number[] = [];
  const expected: number[] = [];
  for (let seed = 1; seed <= 8; seed++) {
    const signs = new Float64Array(gradients.flat.length);
    addSigns(signs, { seed, scalar: 1 }, 0);
    expected.push(gradients.flat.reduce((sum, value, at) => sum + value * signs[at]!, 0) / weight);
    const adapters = [epsilon, -epsilon].map((scalar) => {
      const moved = new LowRankParameters(parameters.modules, targets);
      moved.flat.set(parameters.flat);
      addSigns(moved.flat, { seed, scalar }, 0);
      return moved.modules;
    });
    const [up, down] = await outcome(measureEach(passes, adapters));
    measured.push((up!.loss - down!.loss) / (2 * epsilon));
  }
  await kernel.close();
  await base.close();
  return { measured, expected };
}

const size = (values: readonly number[]) => Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0));

for (const [encoding, tolerance] of [
  ["float32", 0.25],
  ["int8", 0.35],
  ["int4", 0.35],
] as const) {
  test(`${encoding}: slopes are the gradient's along the signs, within ${tolerance} of their size`, async (t) => {
    const { measured, expected } = await slopes(encoding);
    const error = size(measured.map((slope, at) => slope - expected[at]!)) / size(expected);
    t.diagnostic(`off by ${error.toFixed(3)}`);
    assert.ok(error < tolerance, `${measured} of ${expected}`);
  });
}
