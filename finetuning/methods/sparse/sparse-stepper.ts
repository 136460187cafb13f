// A step of sparse finetuning: the gradient at the trained entries, clipping and the optimizer; and, where the plan
// says so, a watch over candidates, the exchange of entries, or the rewind.

import type { SparseGradient } from "../../../kernels/training/sparse-weights.ts";
import { type TrainingUnit, updateUnit } from "../../../kernels/training/training-pass.ts";
import { addSquares } from "../../gradient-norm.ts";
import { addTotals, measuredOf, type Totals } from "../../totals.ts";
import { type GradientStep, LayerOptimizers, stateValue } from "../layer-optimizers.ts";
import type { MethodContext, State, Step, Stepper, StepResult } from "../method.ts";
import {
  type Candidates,
  candidateChooser,
  candidateState,
  restoredCandidates,
  withStep,
} from "./candidates.ts";
import { changedMost, exchange } from "./exchange.ts";
import { endsPeriod, type SparsePlan, watchedShare } from "./sparse-plan.ts";
import type { SparseTrainable, Support } from "./sparse-trainable.ts";

export type SparseStepperOptions = {
  readonly trainable: SparseTrainable;
  readonly plan: SparsePlan;
  readonly budgets: readonly number[]; // entries of each matrix after the rewind
};

/** What belongs to the entries as they are: made anew when their number changes. */
type Working = {
  readonly optimizers: LayerOptimizers;
  readonly gradient: Float32Array; // by the flat values
  readonly before: Float32Array<ArrayBuffer>; // the flat values when entries were exchanged last
};

export class SparseStepper implements Stepper {
  readonly #context: MethodContext;
  readonly #options: SparseStepperOptions;
  #working: Working | null = null;
  #candidates: Candidates | null = null;
  #isRewound = false;

  constructor(context: MethodContext, options: SparseStepperOptions) {
    this.#context = context;
    this.#options = options;
  }

  *step(step: Step): Generator<TrainingUnit, StepResult, void> {
    const { gradient, optimizers } = this.#ready();
    const { trainable } = this.#options;
    // Else the first checkpoint after a resumption would have to.
    for (const matrix of trainable.unordered) yield updateUnit(() => void trainable.order(matrix));
    gradient.fill(0);
    const { totals, candidates: found } = yield* this.#differentiate(step);
    const measured = { ...measuredOf(totals), tokens: totals.tokens };
    const norm = yield* this.#meanNorm(totals.weight);
    const { maxGradientNorm: maxNorm } = this.#context.spec;
    const layers = trainable.segments.map(({ layer }) => layer);
    const { learningRate } = step;
    const move = { flat: trainable.flat, gradient, norm, maxNorm, layers, learningRate };
    const hasGradient = Number.isFinite(measured.loss) && Number.isFinite(norm);
    const skipped = !(hasGradient && (yield* optimizers.tried(move)));
    if (skipped) return { ...measured, gradientNorm: norm, skipped, changes: [] };
    const watched = found === null ? null : yield* this.#watched(found, 1 / totals.weight);
    return { ...measured, gradientNorm: norm, skipped, changes: this.#changes(step, move, watched) };
  }

  /** The sum of gradients becomes their mean. @returns its norm */
  *#meanNorm(weight: number): Generator<TrainingUnit, number, void> {
    const { gradient } = this.#ready();
    let squares = 0;
    for (const { from, to } of this.#options.trainable.segments) {
      yield updateUnit(() => {
        for (let i = from; i < to; i++) gradient[i]! /= weight;
        squares = addSquares(squares, gradient.subarray(from, to));
      });
    }
    return Math.sqrt(squares);
  }

  /** The candidates, with this step's gradients. */
  *#watched(found: Candidates, factor: number): Generator<TrainingUnit, Candidates, void> {
    const watched: SparseGradient[] = [];
    for (const [matrix, candidate] of found.entries()) {
      yield updateUnit(() => void watched.push(withStep(this.#candidates?.[matrix], candidate, factor)));
    }
    return watched;
  }

  state(): State {
    const { optimizers, before } = this.#ready();
    const ofOptimizers = optimizers.state();
    const ofCandidates = candidateState(this.#candidates);
    return {
      values: { ...ofOptimizers.values, ...ofCandidates.values, rewound: Number(this.#isRewound) },
      arrays: { ...ofOptimizers.arrays, ...ofCandidates.arrays, before },
    };
  }

  restore(state: State): void {
    const { optimizers, before } = this.#ready();
    const stored = state.arrays.before;
    if (stored?.length !== before.length) throw new RangeError("the checkpoint has other entries");
    before.set(stored);
    optimizers.restore(state);
    this.#candidates = restoredCandidates(state, this.#options.trainable.supports);
    this.#isRewound = stateValue(state.values, "rewound") === 1;
  }

  #ready(): Working {
    const { trainable } = this.#options;
    this.#working ??= {
      optimizers: new LayerOptimizers(trainable, this.#context.spec.optimizer),
      gradient: new Float32Array(trainable.flat.length),
      before: trainable.flat.slice(),
    };
    return this.#working;
  }

  /** Adds the loss' gradient by the entries, and gives its sum at the candidates where they are watched. */
  *#differentiate(
    step: Step,
  ): Generator<TrainingUnit, { totals: Totals; candidates: Candidates | null }, void> {
    const { trainable, plan } = this.#options;
    const { gradient } = this.#ready();
    const share = this.#isRewound ? 0 : watchedShare(plan, step.index);
    const modules = trainable.modules();
    const own = trainable.supports.map(({ from, to, ...support }) => ({
      ...support,
      gradient: gradient.subarray(from, to),
    }));
    const firstLayer = Math.min(...own.map(({ layer }) => layer));
    let candidates = share > 0 ? emptied(this.#candidates) : null;
    let totals: Totals | null = null;
    for (const pass of this.#context.passes.of(step.examples)) {
      const chooser = share > 0 && candidates === null ? candidateChooser(trainable, share) : null;
      const gradients = {
        modules: [],
        sparse: [...own, ...(candidates ?? [])],
        ...(chooser === null ? {} : { whole: chooser }),
      };
      totals = addTotals(totals, yield* pass.differentiate(modules, gradients, firstLayer));
      candidates ??= chooser?.candidates() ?? null;
    }
    if (totals === null) throw new RangeError("a step has no examples");
    return { totals, candidates };
  }

  /** Layer by layer, then matrix by matrix. */
  #changes({ index }: Step, move: GradientStep, candidates: Candidates | null): (() => void)[] {
    const { trainable, plan, budgets } = this.#options;
    const { optimizers, before } = this.#ready();
    const { flat } = trainable;
    const isPeriodOver = endsPeriod(plan, index);
    const share = watchedShare(plan, index);
    const exchanges = (isPeriodOver ? (candidates ?? []) : []).flatMap((candidate, matrix) => [
      () => optimizers.forget(exchange(trainable, matrix, { candidate, before, share })),
      () => void trainable.order(matrix),
    ]);
    const isRewound = !this.#isRewound && plan.rewindStep > 0 && index + 1 >= plan.rewindStep;
    const kept: Support[] = [];
    const choices = (isRewound ? budgets : []).map((budget, matrix) => () => {
      kept.push(changedMost(trainable, matrix, budget));
    });
    const end = () => {
      this.#candidates = isPeriodOver || isRewound ? null : candidates;
      if (isPeriodOver) before.set(flat);
      if (!isRewound) return;
      trainable.replace(kept); // set back to the base
      this.#working = null;
      this.#isRewound = true;
    };
    return [...optimizers.changes(move), ...exchanges, ...choices, end];
  }
}

function emptied(candidates: Candidates | null): Candidates | null {
  return (
    candidates?.map((candidate) => ({
      ...candidate,
      gradient: new Float32Array(candidate.gradient.length),
    })) ?? null
  );
}
