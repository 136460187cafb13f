// Probes by the graphs that train, one adapter after another: for devices whose serving graph has no runs of nobody's
// row.

import { modulesOf } from "../adapter.ts";
import type { ForwardProbes, ProbeOptions, TokenScores } from "../forward-probes.ts";
import type { TrainingSequence } from "./token-layout.ts";
import type { TrainingKernel } from "./training-kernel.ts";
import type { TrainingUnit } from "./training-pass.ts";

export class KernelProbes implements ForwardProbes {
  readonly #kernel: Pick<TrainingKernel, "pass">;

  constructor(kernel: Pick<TrainingKernel, "pass">) {
    this.#kernel = kernel;
  }

  *scores(
    sequences: readonly TrainingSequence[],
    { adapters, unitTokens: windowTokens }: ProbeOptions,
  ): Generator<TrainingUnit, readonly TokenScores[], void> {
    const scores: TokenScores[] = [];
    for (const adapter of adapters) {
      const modules = modulesOf(adapter, "low-rank").map((module) => ({ ...module, scale: 1 }));
      const pass = this.#kernel.pass(sequences, { modules, train: false, windowTokens });
      yield* pass.forward();
      scores.push({ logprobs: pass.logprobs(), hits: pass.hits() });
    }
    return scores;
  }
}
