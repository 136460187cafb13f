// Fifty steps of AdamW against PyTorch + PEFT: gradients, clipping, schedule and optimizer together, packed here and
// sequence by sequence there.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { clipGradients, gradientNorm } from "../../finetuning/gradient-norm.ts";
import { objectives } from "../../finetuning/objectives/index.ts";
import { optimizers } from "../../finetuning/optimizers/index.ts";
import { schedules } from "../../finetuning/schedules/index.ts";
import { rateFactor } from "../../finetuning/schedules/schedule.ts";
import { openSafetensors } from "../../kernels/checkpoint/safetensors.ts";
import { onEveryProjection } from "../../kernels/training/low-rank-parameters.ts";
import { TrainingKernel } from "../../kernels/training/training-kernel.ts";
import { temporaryCache } from "../golden/golden-case.ts";
import { openTrainingBase } from "./training-base.ts";

const tolerance = 1e-3;
const ownTolerance = 1e-4;

test("the loss curve of 50 steps", async (t) => {
  const golden = JSON.parse(readFileSync(join(import.meta.dirname, "training", "loss-curve.json"), "utf8"));
  const directory = join(import.meta.dirname, "..", "golden", "cases", "llama");
  const base = await openTrainingBase(directory, temporaryCache(), "float32");
  const kernel = await TrainingKernel.open(base, { threads: 1, windowTokens: 16 });
  const { rank, scale } = golden;
  const shapes = onEveryProjection(base.config.layers, { rank, scale });
  const parameters = kernel.parameters(shapes);
  const start = openSafetensors(join(import.meta.dirname, "training", "loss-curve.safetensors"));
  for (const { layer, projection, a } of parameters.modules) {
    const part = ["gate", "up", "down"].includes(projection) ? "mlp" : "self_attn";
    a.set(start.readFloat32(`model.layers.${layer}.${part}.${projection}_proj`));
  }
  start.close();
  const settings = { ...optimizers.adamw.defaults, weightDecay: golden.weightDecay };
  const optimizer = optimizers.adamw.create(parameters.flat.length, settings);
  const objective = objectives["cross-entropy"]();
  const gradients = kernel.parameters(shapes);
  let worst = 0;
  for (const [step, expected] of golden.losses.entries()) {
    const batch: { tokens: number[]; prompt: number }[] = [0, 1, 2].map(
      (offset) => golden.examples[(3 * step + offset) % golden.examples.length],
    );
    const sequences = batch.map(({ tokens, prompt }) => ({
      tokenIds: tokens,
      scored: tokens.flatMap((_, at) => (at >= prompt ? [at] : [])),
    }));
    const pass = kernel.pass(sequences, { modules: parameters.modules, train: true });
    for (const unit of pass.forward()) await unit.run();
    const logprobs = pass.logprobs();
    const weights = [...logprobs].map(() => 1);
    const { loss, weight, slopes } = objective.evaluate([{ weights, logprobs, reference: null }]);
    worst = Math.max(worst, Math.abs(loss / weight - expected));
    gradients.flat.fill(0);
    for (const unit of pass.backward(
      slopes.map((slope) => slope / weight),
      gradients,
    ))
      await unit.run();
    clipGradients(gradients.flat, gradientNorm(gradients.flat), golden.maxNorm);
    const steps = { warmup: golden.warmup, total: golden.losses.length };
    optimizer.step(
      parameters.flat,
      gradients.flat,
      golden.learningRate * rateFactor(schedules.cosine, step, steps),
    );
  }
  t.diagnostic(`largest difference ${worst}`);
  assert.ok(worst <= tolerance && worst <= ownTolerance, `${worst}`);
  await kernel.close();
});
