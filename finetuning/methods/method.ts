// The contract of a finetuning method: what is trained, and how a step moves it. A method is a Trainable (what the
// numbers mean) and a Stepper (how they move); the registry in index.ts says which go together.

import type { AdapterModule, AdapterTargets, DecodedAdapter } from "../../kernels/adapter.ts";
import type { LowRankParameters, TrainedModule } from "../../kernels/training/low-rank-parameters.ts";
import type { Precision } from "../../kernels/training/precision.ts";
import type { TrainingKernel } from "../../kernels/training/training-kernel.ts";
import type { PassModule, TrainingUnit } from "../../kernels/training/training-pass.ts";
import type { ExamplePasses } from "../example-passes.ts";
import type { CheckpointArray, Measured, TrainingSpec } from "../job.ts";
import type { Settings, SettingsTable } from "../settings.ts";

/** Where flat values belong, so that a step can be kept to some layers. */
export type Segment = { readonly layer: number; readonly from: number; readonly to: number };

/** What steps to come depend on, in plain values and live arrays: a checkpoint copies them. */
export type State = {
  readonly values: Readonly<Record<string, number>>;
  readonly arrays: Readonly<Record<string, CheckpointArray>>;
};

/**
 * One flat array of trained numbers, and the modules that passes see of it. `prepare` and `restore` may still
 * replace the array by one of another size; afterwards it stays.
 */
export interface Trainable {
  readonly flat: Float32Array<ArrayBuffer>;
  readonly segments: readonly Segment[]; // ascending; together all of `flat`
  /** As the values stand, or as others in their place would have it; valid until the next call. */
  modules(values?: Float32Array): readonly PassModule[];
  /** The adapter to be served, in copies that are made one by one: nothing moves until the last. Throws nothing. */
  served(): Iterable<AdapterModule>;
  /** What belongs to it beside `flat`, which is restored after it. */
  state(): State;
  /** @throws RangeError for a state that is not this trainable's */
  restore(state: State): void;
}

/** What BackpropStepper moves: to passes it is low-rank modules, whatever it is otherwise. */
export interface BackpropTrainable extends Trainable {
  modules(values?: Float32Array): readonly TrainedModule[];
  /** Adds one layer's gradient by `flat`, from the mean loss' gradients by the modules. */
  addGradient(layer: number, ofModules: LowRankParameters, gradient: Float32Array): void;
  /**
   * What follows once a backprop step has moved the values, in pieces as a StepResult has them.
   * @param gradient the step's, by `flat`, as it was applied
   * @param layers that the step moved: the gradient says nothing of others
   */
  moved?(step: Step, gradient: Float32Array, layers: readonly number[]): (() => void)[];
}

export const noState: State = { values: {}, arrays: {} };

export type StepResult = Measured & {
  readonly tokens: number;
  readonly gradientNorm: number | null;
  readonly skipped: boolean; // loss, gradient or new values were not finite: there are no changes then
  /**
   * What the step changes, in pieces of some milliseconds each, to be called in order. Once the first is called, all
   * are, before anybody asks for a state. Without them nothing has changed.
   */
  readonly changes: readonly (() => void)[];
};

export type Step = {
  readonly index: number; // from 0
  readonly examples: readonly number[]; // of the training examples, an index each
  readonly learningRate: number; // as the schedule has it
};

export interface Stepper {
  /** The units change nothing that a state holds: the result's changes do. */
  step(step: Step): Generator<TrainingUnit, StepResult, void>;
  state(): State;
  restore(state: State): void;
}

export type MethodContext = {
  readonly kernel: TrainingKernel;
  readonly targets: AdapterTargets;
  readonly spec: TrainingSpec;
  readonly steps: number; // of the whole job
  readonly passes: ExamplePasses; // over the training examples
  readonly from: DecodedAdapter | null;
};

/** What a job runs: `prepare` first, unless it goes on from a checkpoint. */
export type Prepared = {
  readonly trainable: Trainable;
  readonly stepper: Stepper;
  /** Units of what must be computed before the first step, as an initialiser that reads activations. */
  prepare(): Generator<TrainingUnit, void, void>;
};

export interface Method {
  readonly summary: string;
  readonly settings: SettingsTable;
  readonly learningRate: number; // unless a job sets its own
  /** Whether steps go back through the layers: gradients, moments and activations need memory then. */
  readonly backward: boolean;
  /** How the base's matrices may be multiplied with: those that a method changes itself are float32. */
  readonly precisions: readonly Precision[];
  /** @throws SettingsError for settings that do not go together, or not with `from` */
  open(context: MethodContext): Prepared;
  /**
   * For a job's memory, before anything is opened.
   * @throws SettingsError for all that `open` would refuse
   */
  size(settings: Settings, of: { targets: AdapterTargets; from: DecodedAdapter | null }): MethodSize;
  /** Settings that an adapter to continue from has its own of. For one that `size` takes. */
  kept(settings: Settings, of: { targets: AdapterTargets; from: DecodedAdapter }): KeptSettings;
}

/** By setting what the adapter has instead, in words; null = the same. */
export type KeptSettings = Readonly<Record<string, string | null>>;

export type MethodSize = {
  readonly trained: number; // numbers that move
  readonly frozen: number; // numbers that modules have beside those
  readonly kept: number; // numbers that a checkpoint has beside those that move and their moments, and their log
  readonly preparing: number; // numbers that are held before the first step only
};
