// The same fifty steps as a finetuning job takes them: its own order, passes and steps, from an adapter's values.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ExampleOrder } from "../../finetuning/example-order.ts";
import { optimizers } from "../../finetuning/optimizers/index.ts";
import { type LowRankModule, projections } from "../../kernels/adapter.ts";
import { openSafetensors } from "../../kernels/checkpoint/safetensors.ts";
import {
  eventsOf,
  examplesOf,
  openSmallKernel,
  runJob,
  runUnits,
  smallStart,
} from "../training-job-fixture.ts";

const tolerance = 1e-4;
const batchSize = 3;

test("the loss curve of a job of 50 steps", async (t) => {
  const golden = JSON.parse(readFileSync(join(import.meta.dirname, "training", "loss-curve.json"), "utf8"));
  const on = await openSmallKernel();
  const file = openSafetensors(join(import.meta.dirname, "training", "loss-curve.safetensors"));
  const modules = Array.from({ length: on.targets.layers }, (_, layer) =>
    projections.map((projection): LowRankModule => {
      const part = ["gate", "up", "down"].includes(projection) ? "mlp" : "self_attn";
      const a = file.readFloat32(`model.layers.${layer}.${part}.${projection}_proj`);
      const b = new Float32Array(golden.rank * on.targets.shapes[projection].out);
      return { kind: "low-rank", layer, projection, rank: golden.rank, a, b };
    }),
  ).flat();
  file.close();
  const steps: number = golden.losses.length;
  const seed = 5;
  const count = steps * batchSize;
  const order = new ExampleOrder({ examples: count, batchSize, epochs: 1, seed });
  const sequences: { tokens: number[]; weights: number[] }[] = [];
  for (let step = 0; step < steps; step++) {
    for (const [offset, place] of (await runUnits(order.at(step))).entries()) {
      const { tokens, prompt } = golden.examples[(batchSize * step + offset) % golden.examples.length];
      const weights = tokens.map((_: number, at: number) => (at < prompt ? 0 : 1));
      sequences[place] = { tokens, weights };
    }
  }
  const settings = { ...optimizers.adamw.defaults, weightDecay: golden.weightDecay };
  const start = smallStart(
    {
      method: { name: "lora", settings: { alpha: golden.scale * golden.rank } },
      optimizer: { name: "adamw", settings },
      schedule: "cosine",
      warmupSteps: golden.warmup,
      learningRate: golden.learningRate,
      maxGradientNorm: golden.maxNorm,
      epochs: 1,
      batchSize,
      passTokens: 1024,
      seed,
    },
    { training: examplesOf(sequences), from: { modules } },
  );
  const losses = eventsOf(await runJob(start, on), "step").map(({ loss }) => loss);
  const errors = golden.losses.map((expected: number, step: number) => Math.abs(losses[step]! - expected));
  t.diagnostic(`largest difference ${Math.max(...errors)}`);
  assert.equal(losses.length, steps);
  assert.ok(Math.max(...errors) <= tolerance, `${Math.max(...errors)}`);
  await on.kernel.close();
});
