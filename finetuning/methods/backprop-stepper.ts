// A step by gradients: the examples' passes forward and back, then clipping and the optimizer, on the layers that the
// selection names. Knows no kind of trained module.

import { LowRankParameters } from "../../kernels/training/low-rank-parameters.ts";
import { type TrainingUnit, updateUnit } from "../../kernels/training/training-pass.ts";
import { addSquares } from "../gradient-norm.ts";
import { addTotals, measuredOf, type Totals } from "../totals.ts";
import { type GradientStep, LayerOptimizers } from "./layer-optimizers.ts";
import type { BackpropTrainable, MethodContext, State, Step, Stepper, StepResult } from "./method.ts";
import type { LayerChoice, LayerSelection } from "./selections/layer-selection.ts";

/** What the first step or a checkpoint makes, when the trainable has its size. */
type Working = {
  readonly optimizers: LayerOptimizers;
  readonly ofModules: LowRankParameters;
  readonly gradient: Float32Array; // by the trainable's flat values
};

export class BackpropStepper implements Stepper {
  readonly #context: MethodContext;
  readonly #trainable: BackpropTrainable;
  readonly #selection: LayerSelection;
  #working: Working | null = null;

  constructor(context: MethodContext, trainable: BackpropTrainable, selection: LayerSelection) {
    this.#context = context;
    this.#trainable = trainable;
    this.#selection = selection;
  }

  *step(step: Step): Generator<TrainingUnit, StepResult, void> {
    const { ofModules, optimizers, gradient } = this.#ready();
    const passes = this.#context.passes.of(step.examples);
    const modules = this.#trainable.modules();
    const choice = yield* this.#selection.choose({ step: step.index, passes, modules });
    ofModules.flat.fill(0);
    let totals: Totals | null = null;
    for (const pass of passes) {
      totals = addTotals(totals, yield* pass.differentiate(modules, ofModules, Math.min(...choice.layers)));
    }
    if (totals === null) throw new RangeError("a step has no examples");
    const measured = { ...measuredOf(totals), tokens: totals.tokens };
    const norm = yield* this.#makeGradient(totals.weight, choice);
    const { maxGradientNorm: maxNorm } = this.#context.spec;
    const { layers } = choice;
    const { learningRate } = step;
    const move = { flat: this.#trainable.flat, gradient, norm, maxNorm, layers, learningRate };
    const hasGradient = Number.isFinite(measured.loss) && Number.isFinite(norm);
    const skipped = !(hasGradient && (yield* optimizers.tried(move)));
    const changes = skipped ? [] : this.#changes(step, choice, move);
    return { ...measured, gradientNorm: norm, skipped, changes };
  }

  state(): State {
    const optimizers = this.#ready().optimizers.state();
    const selection = this.#selection.state();
    return {
      values: { ...optimizers.values, ...selection.values },
      arrays: { ...optimizers.arrays, ...selection.arrays },
    };
  }

  restore(state: State): void {
    this.#ready().optimizers.restore(state);
    this.#selection.restore(state);
  }

  #ready(): Working {
    this.#working ??= {
      optimizers: new LayerOptimizers(this.#trainable, this.#context.spec.optimizer),
      ofModules: new LowRankParameters(this.#trainable.modules(), this.#context.targets),
      gradient: new Float32Array(this.#trainable.flat.length),
    };
    return this.#working;
  }

  /** Layer by layer. @returns the norm of the chosen layers' gradient; the others' is zero then */
  *#makeGradient(weight: number, { layers }: LayerChoice): Generator<TrainingUnit, number, void> {
    const { ofModules, gradient } = this.#ready();
    let squares = 0;
    for (const { layer, from, to } of this.#trainable.segments) {
      yield updateUnit(() => {
        const own = gradient.subarray(from, to);
        own.fill(0);
        if (!layers.includes(layer)) return;
        for (const { a, b } of ofModules.modules.filter((module) => module.layer === layer)) {
          divide(a, weight);
          divide(b, weight);
        }
        this.#trainable.addGradient(layer, ofModules, gradient);
        squares = addSquares(squares, own);
      });
    }
    return Math.sqrt(squares);
  }

  /** Layer by layer. */
  #changes(step: Step, { keep }: LayerChoice, move: GradientStep): (() => void)[] {
    const moved = this.#trainable.moved?.(step, move.gradient, move.layers) ?? [];
    return [...this.#ready().optimizers.changes(move), keep, ...moved];
  }
}

function divide(values: Float32Array, divisor: number): void {
  for (let i = 0; i < values.length; i++) values[i]! /= divisor;
}
