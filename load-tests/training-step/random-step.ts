// A training step on random tokens and a random adapter on all projections, of which the later half of each sequence is
// scored: what speed needs, without an optimizer.

import { randomAt } from "../../kernels/sampling/random.ts";
import { onEveryProjection } from "../../kernels/training/low-rank-parameters.ts";
import type { Precision } from "../../kernels/training/precision.ts";
import type { TrainingKernel } from "../../kernels/training/training-kernel.ts";
import type { TrainingUnit } from "../../kernels/training/training-pass.ts";

export type RandomStep = {
  readonly layers: number;
  readonly vocabSize: number;
  readonly rank: number;
  readonly lengths: readonly number[]; // of the sequences
  readonly precision?: Precision; // float32 unless given
};

/** @returns runs the step, forward and backward, and tells the milliseconds of its units */
export function randomStep(
  kernel: TrainingKernel,
  { layers, vocabSize, rank, lengths, precision = "float32" }: RandomStep,
): () => Promise<number[]> {
  const shapes = onEveryProjection(layers, { rank, scale: 1 });
  const parameters = kernel.parameters(shapes);
  const gradients = kernel.parameters(shapes);
  let draws = 0;
  const draw = () => randomAt(1, draws++);
  for (const { a } of parameters.modules) {
    for (let i = 0; i < a.length; i++) a[i] = (draw() - 0.5) / Math.sqrt(a.length / rank);
  }
  const sequences = lengths.map((length) => ({
    tokenIds: Array.from({ length }, () => 4 + Math.floor(draw() * (vocabSize - 4))),
    scored: Array.from({ length: length - Math.floor(length / 2) }, (_, at) => Math.floor(length / 2) + at),
  }));
  return async () => {
    const pass = kernel.pass(sequences, { modules: parameters.modules, train: true, precision });
    const unitMs: number[] = [];
    const runAll = async (units: Iterable<TrainingUnit>) => {
      for (const unit of units) {
        const start = performance.now();
        await unit.run();
        unitMs.push(performance.now() - start);
      }
    };
    gradients.flat.fill(0);
    await runAll(pass.forward());
    const logprobs = pass.logprobs();
    const slopes = Float64Array.from(logprobs, () => -1 / logprobs.length);
    await runAll(pass.backward(slopes, gradients));
    return unitMs;
  };
}
