// Examples that go through the base together, and what their loss is: forward, or forward and back.

import type { TokenScores } from "../kernels/forward-probes.ts";
import type { TrainingSequence } from "../kernels/training/token-layout.ts";
import type { TrainingKernel } from "../kernels/training/training-kernel.ts";
import type { PassGradients, PassModule, TrainingUnit } from "../kernels/training/training-pass.ts";
import type { ForwardPasses, PassHow } from "./forward-passes.ts";
import type { Measured } from "./job.ts";
import type { Evaluation, Objective } from "./objectives/objective.ts";
import { addTotals, measuredOf, noExamples, type Totals } from "./totals.ts";

export type WeightedSequence = TrainingSequence & { readonly weights: readonly number[] }; // [scored]

type ExamplePassParts = {
  readonly kernel: TrainingKernel;
  readonly forward: ForwardPasses;
  readonly how: PassHow;
  readonly objective: Objective;
  readonly sequences: readonly WeightedSequence[];
};

export type MeasuredPass = {
  /** The loss' sums, forward only. */
  measure(modules: readonly PassModule[]): Generator<TrainingUnit, Totals, void>;
};

export class ExamplePass implements MeasuredPass {
  readonly tokens: number;
  readonly #parts: ExamplePassParts;
  /** [scored], of the base, once it was needed. Whoever knows it may say so before. */
  reference: Float64Array | null = null;

  constructor(parts: ExamplePassParts) {
    this.#parts = parts;
    this.tokens = parts.sequences.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0);
  }

  get sequences(): readonly TrainingSequence[] {
    return this.#parts.sequences;
  }

  *measure(modules: readonly PassModule[]): Generator<TrainingUnit, Totals, void> {
    const [totals] = yield* this.measureEach([modules]);
    return totals!;
  }

  /** The loss' sums with each of the adapters. */
  *measureEach(
    adapters: readonly (readonly PassModule[])[],
  ): Generator<TrainingUnit, readonly Totals[], void> {
    const reference = yield* this.#needed();
    const scores = yield* this.#parts.forward(this.#parts.sequences, adapters);
    return scores.map((own) => this.#totals(this.#evaluate(own.logprobs, reference), own));
  }

  /**
   * Adds the gradients of the loss' sum.
   * @param firstLayer below which nothing is trained
   */
  *differentiate(
    modules: readonly PassModule[],
    gradients: PassGradients,
    firstLayer: number,
  ): Generator<TrainingUnit, Totals, void> {
    const reference = yield* this.#needed();
    const { kernel, sequences, how } = this.#parts;
    const pass = kernel.pass(sequences, { modules, train: true, firstTrainedLayer: firstLayer, ...how });
    yield* pass.forward();
    const scores = { logprobs: pass.logprobs(), hits: pass.hits() }; // going back frees them
    const evaluation = this.#evaluate(scores.logprobs, reference);
    yield* pass.backward(evaluation.slopes, gradients);
    return this.#totals(evaluation, scores);
  }

  /** The reference's log-probabilities, where the objective compares with them: computed once. */
  *#needed(): Generator<TrainingUnit, Float64Array | null, void> {
    const { objective, forward, sequences } = this.#parts;
    if (objective.needsReference && this.reference === null) {
      const [scores] = yield* forward(sequences, [[]]);
      this.reference = scores!.logprobs;
    }
    return this.reference;
  }

  #evaluate(logprobs: Float64Array, reference: Float64Array | null): Evaluation {
    let at = 0;
    const scored = this.#parts.sequences.map(({ weights }) => {
      const from = at;
      at += weights.length;
      return {
        weights,
        logprobs: logprobs.subarray(from, at),
        reference: reference?.subarray(from, at) ?? null,
      };
    });
    return this.#parts.objective.evaluate(scored);
  }

  #totals({ loss, weight, metrics }: Evaluation, { hits }: TokenScores): Totals {
    const { objective, sequences } = this.#parts;
    const examples = sequences.length / objective.sequencesPerExample;
    const weights = sequences.flatMap((sequence) => sequence.weights);
    const hitWeight = weights.reduce((sum, own, at) => sum + own * hits[at]!, 0);
    const own = { hits: objective.wantsHits ? hitWeight : null, examples, tokens: this.tokens };
    return { loss, weight, metrics, ...own };
  }
}

/** The examples' means, forward only. */
export function* measureAll(
  passes: readonly MeasuredPass[],
  modules: readonly PassModule[],
): Generator<TrainingUnit, Totals, void> {
  let totals: Totals | null = null;
  for (const pass of passes) totals = addTotals(totals, yield* pass.measure(modules));
  if (totals === null) throw noExamples();
  return totals;
}

/** The examples' means with each of the adapters, forward only. */
export function* measureEach(
  passes: readonly ExamplePass[],
  adapters: readonly (readonly PassModule[])[],
): Generator<TrainingUnit, Measured[], void> {
  const totals: (Totals | null)[] = adapters.map(() => null);
  for (const pass of passes) {
    for (const [index, own] of (yield* pass.measureEach(adapters)).entries()) {
      totals[index] = addTotals(totals[index]!, own);
    }
  }
  return totals.map((own) => {
    if (own === null) throw noExamples();
    return measuredOf(own);
  });
}
