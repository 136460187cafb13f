// A step's examples as passes through the base: which go together, and what their loss is. Methods with and without
// gradients share it, and so does validation.

import type { TrainingSequence } from "../kernels/training/token-layout.ts";
import type { TrainingKernel } from "../kernels/training/training-kernel.ts";
import type { PassGradients, PassModule, TrainingUnit } from "../kernels/training/training-pass.ts";
import type { ForwardPasses } from "./forward-passes.ts";
import type { Measured, TrainingExamples, TrainingSpec } from "./job.ts";
import { objectives } from "./objectives/index.ts";
import type { Evaluation, Objective } from "./objectives/objective.ts";

/** Sums over examples; `measuredOf` makes means of them. */
export type Totals = {
  readonly loss: number;
  readonly weight: number;
  readonly examples: number;
  readonly tokens: number;
  readonly metrics: Readonly<Record<string, number>>;
};

type WeightedSequence = TrainingSequence & { readonly weights: readonly number[] }; // [scored]

export type ExamplePassesOptions = {
  readonly kernel: TrainingKernel; // for gradients
  readonly forward: ForwardPasses; // for all that is measured without
  readonly spec: Pick<TrainingSpec, "objective" | "passTokens" | "windowTokens">;
  readonly examples: TrainingExamples;
};

/** Of examples that are packed together: enough to fill passes, and few beside what their passes take. */
const chunkExamples = 256;
const chunkPasses = 16;
/** Log-probabilities of validation's tokens under the base, which every validation compares with. */
export const referencesLimitBytes = 2 ** 23;

export class ExamplePasses {
  readonly count: number; // of examples
  readonly #options: ExamplePassesOptions;
  readonly #objective: Objective;
  readonly #references: Float64Array[] = []; // by pass of `measure`
  #referencesBytes = 0;

  constructor(options: ExamplePassesOptions) {
    this.#options = options;
    this.#objective = objectives[options.spec.objective.name](options.spec.objective);
    this.count = exampleCount(options.examples, options.spec);
  }

  /** The passes that such examples make, largest examples first. What a pass has learned it keeps: reuse it. */
  of(indices: readonly number[]): ExamplePass[] {
    const examples = indices.map((index) => this.#example(index));
    const sizes = examples.map((example) => example.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0));
    return packed(sizes, this.#options.spec.passTokens).map(
      (places) =>
        new ExamplePass({
          kernel: this.#options.kernel,
          forward: this.#options.forward,
          windowTokens: this.#options.spec.windowTokens,
          objective: this.#objective,
          sequences: places.flatMap((place) => examples[place]!),
        }),
    );
  }

  /** All examples forward only, packed some at a time when their turn comes: there may be millions. */
  *measure(modules: readonly PassModule[]): Generator<TrainingUnit, Totals, void> {
    let totals: Totals | null = null;
    let index = 0; // of a pass: they are the same ones every time
    for (let from = 0; from < this.count; ) {
      const chunk = this.#chunk(from);
      for (const pass of this.of(chunk)) {
        pass.reference = this.#references[index] ?? null;
        totals = addTotals(totals, yield* pass.measure(modules));
        if (pass.reference !== null) this.#keepReference(index, pass.reference);
        index++;
      }
      from += chunk.length;
    }
    if (totals === null) throw noExamples();
    return totals;
  }

  /** Those of the first passes, as far as there is room: the others' are computed each time. */
  #keepReference(index: number, reference: Float64Array): void {
    if (index !== this.#references.length) return;
    if (this.#referencesBytes + reference.byteLength > referencesLimitBytes) return;
    this.#references.push(reference);
    this.#referencesBytes += reference.byteLength;
  }

  /** The examples from here on that are packed together, at least one. */
  #chunk(from: number): number[] {
    const { passTokens } = this.#options.spec;
    const chunk: number[] = [];
    for (let at = from, tokens = 0; at < this.count && chunk.length < chunkExamples; at++) {
      if (tokens >= chunkPasses * passTokens) break;
      tokens += this.tokensOf(at);
      chunk.push(at);
    }
    return chunk;
  }

  tokensOf(index: number): number {
    const { ends } = this.#options.examples;
    const size = this.#objective.sequencesPerExample;
    return ends[(index + 1) * size - 1]! - (index === 0 ? 0 : ends[index * size - 1]!);
  }

  #example(index: number): WeightedSequence[] {
    const { tokenIds, weights, ends } = this.#options.examples;
    const size = this.#objective.sequencesPerExample;
    return Array.from({ length: size }, (_, part) => {
      const sequence = index * size + part;
      const from = sequence === 0 ? 0 : ends[sequence - 1]!;
      const own = weights.subarray(from, ends[sequence]!);
      const scored = Array.from(own.keys()).filter((at) => own[at] !== 0);
      return {
        tokenIds: Array.from(tokenIds.subarray(from, ends[sequence]!)),
        scored,
        weights: scored.map((at) => own[at]!),
      };
    });
  }
}

type ExamplePassParts = {
  readonly kernel: TrainingKernel;
  readonly forward: ForwardPasses;
  readonly windowTokens: number;
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
    const logprobs = yield* this.#parts.forward(this.#parts.sequences, adapters);
    return logprobs.map((own) => this.#totals(this.#evaluate(own, reference)));
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
    const { kernel, sequences, windowTokens } = this.#parts;
    const pass = kernel.pass(sequences, {
      modules,
      train: true,
      firstTrainedLayer: firstLayer,
      windowTokens,
    });
    yield* pass.forward();
    const evaluation = this.#evaluate(pass.logprobs(), reference);
    yield* pass.backward(evaluation.slopes, gradients);
    return this.#totals(evaluation);
  }

  /** The reference's log-probabilities, where the objective compares with them: computed once. */
  *#needed(): Generator<TrainingUnit, Float64Array | null, void> {
    const { objective, forward, sequences } = this.#parts;
    if (objective.needsReference && this.reference === null) {
      [this.reference = null] = yield* forward(sequences, [[]]);
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

  #totals({ loss, weight, metrics }: Evaluation): Totals {
    const { objective, sequences } = this.#parts;
    const examples = sequences.length / objective.sequencesPerExample;
    return { loss, weight, metrics, examples, tokens: this.tokens };
  }
}

export function exampleCount(
  { ends }: TrainingExamples,
  { objective }: Pick<TrainingSpec, "objective">,
): number {
  return ends.length / objectives[objective.name](objective).sequencesPerExample;
}

export function addTotals(one: Totals | null, other: Totals): Totals {
  if (one === null) return other;
  return {
    loss: one.loss + other.loss,
    weight: one.weight + other.weight,
    examples: one.examples + other.examples,
    tokens: one.tokens + other.tokens,
    metrics: Object.fromEntries(
      Object.entries(one.metrics).map(([name, value]) => [name, value + other.metrics[name]!]),
    ),
  };
}

export function measuredOf({ loss, weight, examples, metrics }: Totals): Measured {
  const means = Object.entries(metrics).map(([name, sum]) => [name, sum / examples]);
  return { loss: loss / weight, metrics: Object.fromEntries(means) };
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

function noExamples(): RangeError {
  return new RangeError("there are no examples to measure");
}

/**
 * Bins of at most `capacity`: the largest first, each into the first bin where it fits (first-fit decreasing). What is
 * larger has a bin of its own.
 */
export function packed(sizes: readonly number[], capacity: number): number[][] {
  const bins: { readonly places: number[]; size: number }[] = [];
  const order = Array.from(sizes.keys()).sort((one, other) => sizes[other]! - sizes[one]! || one - other);
  for (const place of order) {
    const size = sizes[place]!;
    const bin = bins.find((candidate) => candidate.size + size <= capacity);
    if (bin === undefined) bins.push({ places: [place], size });
    else {
      bin.places.push(place);
      bin.size += size;
    }
  }
  return bins.map(({ places }) => places);
}
