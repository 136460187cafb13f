// Loss and gradients of golden sequences through a kernel, and how far gradients are apart.

import assert from "node:assert/strict";
import type { LowRankParameters } from "../../kernels/training/low-rank-parameters.ts";
import type { Precision } from "../../kernels/training/precision.ts";
import type { TrainingKernel } from "../../kernels/training/training-kernel.ts";
import type { GoldenGradients } from "./golden-gradients.ts";

export type Weighted = Pick<GoldenGradients, "tokenIds" | "weights">;

/** The mean by weight of the negative log-probabilities, over all sequences. */
export async function weightedLoss(
  kernel: TrainingKernel,
  { parameters }: Pick<GoldenGradients, "parameters">,
  sequences: readonly Weighted[],
  precision: Precision = "float32",
): Promise<{ loss: number; gradients: LowRankParameters }> {
  const gradients = kernel.parameters(parameters.modules);
  const scoredOf = ({ weights }: Weighted) => weights.flatMap((weight, at) => (weight > 0 ? [at] : []));
  const pass = kernel.pass(
    sequences.map((sequence) => ({ tokenIds: sequence.tokenIds, scored: scoredOf(sequence) })),
    { modules: parameters.modules, train: true, precision },
  );
  for (const unit of pass.forward()) await unit.run();
  const weights = sequences.flatMap(({ weights }) => weights.filter((weight) => weight > 0));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const loss = pass.logprobs().reduce((sum, logprob, index) => sum - (logprob * weights[index]!) / total, 0);
  const slopes = weights.map((weight) => -weight / total);
  for (const unit of pass.backward(slopes, gradients)) await unit.run();
  return { loss, gradients };
}

/** Of the difference's norm to the expected one's. */
export function relativeError(found: Float32Array, expected: Float32Array): number {
  assert.equal(found.length, expected.length);
  const norm = (values: Float32Array) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return norm(found.map((value, i) => value - expected[i]!)) / norm(expected);
}
