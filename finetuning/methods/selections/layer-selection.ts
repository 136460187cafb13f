// The contract of a layer selection: which layers a step moves. Knows no gradients.

import type { TrainedModule } from "../../../kernels/training/low-rank-parameters.ts";
import type { TrainingUnit } from "../../../kernels/training/training-pass.ts";
import type { MeasuredPass } from "../../example-pass.ts";
import type { State } from "../method.ts";

export type LayerChoice = {
  readonly layers: readonly number[]; // ascending
  readonly keep: () => void; // to be called if the step is applied: only then the selection changes
};

export type ChoiceOptions = {
  readonly step: number;
  readonly passes: readonly MeasuredPass[]; // the step's examples
  readonly modules: readonly TrainedModule[];
};

export interface LayerSelection {
  /** Units of what it measures first, if anything. */
  choose(options: ChoiceOptions): Generator<TrainingUnit, LayerChoice, void>;
  state(): State;
  restore(state: State): void;
}

export type SelectionOptions = {
  readonly layers: () => readonly number[]; // with trained values
  readonly count: number; // of a step
  readonly period: number; // steps
  readonly seed: number;
};

export type SelectionKind = (options: SelectionOptions) => LayerSelection;
