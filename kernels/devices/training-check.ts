// Whether a device finds the gradients that the CPU finds: of low-rank modules on every projection, through a few
// layers of the base that is to be trained on. What serving computes, self-check.ts checks.

import { CotenantError } from "../errors.ts";
import type { ModelConfig } from "../model-config.ts";
import { randomAt } from "../sampling/random.ts";
import { onEveryProjection } from "../training/low-rank-parameters.ts";
import type { TrainingKernel } from "../training/training-kernel.ts";

/**
 * How far a tensor may be from the CPU's, by norm. Float32 sums in another order come to 1e-5 (docs/webgpu.md). Of
 * tensors that are small beside the largest, what is far for their own size may be rounding.
 */
const gradientTolerance = 1e-3;
const smallShare = 1e-2;

export type CheckedGradients = {
  readonly logprobs: Float32Array;
  readonly gradients: readonly Float32Array[];
};

const tokens = 40;
const windowTokens = 32; // so that gradients of keys and values go from one window to another
const rank = 8;

/** Ends the kernel. */
export async function checkedGradients(
  kernel: TrainingKernel,
  { layers, vocabSize }: ModelConfig,
): Promise<CheckedGradients> {
  try {
    const shapes = onEveryProjection(layers, { rank, scale: 1 });
    const { flat, modules } = kernel.parameters(shapes);
    for (let index = 0; index < flat.length; index++) flat[index] = (randomAt(0, index) - 0.5) / 10;
    const tokenIds = Array.from({ length: tokens }, (_, place) => Math.floor(randomAt(1, place) * vocabSize));
    const scored = [...tokenIds.keys()].slice(1);
    const pass = kernel.pass([{ tokenIds, scored }], { modules, train: true, windowTokens });
    for (const unit of pass.forward()) await unit.run();
    const logprobs = Float32Array.from(pass.logprobs());
    const found = kernel.parameters(shapes);
    for (const unit of pass.backward(Array(scored.length).fill(-1 / scored.length), found)) await unit.run();
    return { logprobs, gradients: found.modules.flatMap(({ a, b }) => [a, b]) };
  } finally {
    await kernel.close();
  }
}

/** @throws CotenantError `device_computes_wrong` */
export function assertSameGradients(found: CheckedGradients, expected: CheckedGradients): void {
  const worst = gradientDistance(found, expected);
  if (worst <= gradientTolerance) return;
  throw new CotenantError(
    "device_computes_wrong",
    `WebGPU finds other gradients on this base than the CPU (by ${worst.toExponential(1)} of their size, where ${gradientTolerance} is allowed): nothing can be trained on it; update the GPU's driver, or start with --device cpu`,
  );
}

/** The largest of a tensor, as a share of its norm; NaN where anything is not a number. */
export function gradientDistance(found: CheckedGradients, expected: CheckedGradients): number {
  const largest = Math.max(...expected.gradients.map(norm));
  const shares = expected.gradients.map(
    (tensor, index) =>
      norm(difference(found.gradients[index]!, tensor)) / Math.max(norm(tensor), largest * smallShare),
  );
  const ofLogprobs = norm(difference(found.logprobs, expected.logprobs)) / norm(expected.logprobs);
  return Math.max(ofLogprobs, ...shares);
}

function difference(one: Float32Array, other: Float32Array): Float32Array {
  return one.map((value, index) => value - other[index]!);
}

function norm(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}
