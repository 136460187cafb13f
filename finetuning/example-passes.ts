// A set of examples as passes through the base: which go together. Methods with and without gradients share it, and so
// does validation.

import type { TrainingKernel } from "../kernels/training/training-kernel.ts";
import type { PassModule, TrainingUnit } from "../kernels/training/training-pass.ts";
import { ExamplePass, type WeightedSequence } from "./example-pass.ts";
import type { ForwardPasses, PassHow } from "./forward-passes.ts";
import type { TrainingExamples, TrainingSpec } from "./job.ts";
import { objectives } from "./objectives/index.ts";
import type { Objective } from "./objectives/objective.ts";
import { addTotals, noExamples, type Totals } from "./totals.ts";

export type ExamplePassesOptions = {
  readonly kernel: TrainingKernel; // for gradients
  readonly forward: ForwardPasses; // for all that is measured without
  readonly spec: Pick<TrainingSpec, "objective" | "passTokens"> & PassHow;
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
    const { windowTokens, precision } = this.#options.spec;
    const how = { windowTokens, precision };
    const sizes = examples.map((example) => example.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0));
    return packed(sizes, this.#options.spec.passTokens).map(
      (places) =>
        new ExamplePass({
          kernel: this.#options.kernel,
          forward: this.#options.forward,
          how,
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

function exampleCount({ ends }: TrainingExamples, { objective }: Pick<TrainingSpec, "objective">): number {
  return ends.length / objectives[objective.name](objective).sequencesPerExample;
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
