// Forward passes without gradients, by the kernel that trains or by the graph that serves: what tokens are worth under
// some adapters. Which of the two a job measures with is its method's say.

import type { DecodedAdapter } from "../kernels/adapter.ts";
import type { ForwardProbes, TokenScores } from "../kernels/forward-probes.ts";
import type { TrainedModule } from "../kernels/training/low-rank-parameters.ts";
import type { TrainingSequence } from "../kernels/training/token-layout.ts";
import type { TrainingKernel } from "../kernels/training/training-kernel.ts";
import type { PassModule, TrainingUnit } from "../kernels/training/training-pass.ts";
import type { TrainingSpec } from "./job.ts";
import { scaled } from "./methods/low-rank/low-rank-trainable.ts";

/** @returns [adapters] */
export type ForwardPasses = (
  sequences: readonly TrainingSequence[],
  adapters: readonly (readonly PassModule[])[],
) => Generator<TrainingUnit, readonly TokenScores[], void>;

/** What of a spec decides how a pass computes. */
export type PassHow = Pick<TrainingSpec, "windowTokens" | "precision">;

/** One adapter after another. */
export function kernelPasses(kernel: TrainingKernel, how: PassHow): ForwardPasses {
  return function* (sequences, adapters) {
    const scores: TokenScores[] = [];
    for (const modules of adapters) {
      const pass = kernel.pass(sequences, { modules, train: false, ...how });
      yield* pass.forward();
      scores.push({ logprobs: pass.logprobs(), hits: pass.hits() });
    }
    return scores;
  };
}

/** All adapters, of low-rank modules, side by side. */
export function servingPasses(probes: ForwardProbes, unitTokens: number): ForwardPasses {
  return (sequences, adapters) =>
    probes.scores(sequences, { adapters: adapters.map(servedAdapter), unitTokens });
}

function servedAdapter(modules: readonly PassModule[]): DecodedAdapter {
  return {
    modules: modules.map((module) => {
      if (!isLowRank(module)) throw new RangeError("a probe's adapter has low-rank modules only");
      const { layer, projection, rank, a, b, scale } = module;
      return { kind: "low-rank", layer, projection, rank, a: a.slice(), b: scaled(b, scale) };
    }),
  };
}

function isLowRank(module: PassModule): module is TrainedModule {
  return "rank" in module;
}
