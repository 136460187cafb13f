// A finetuning job as a list of units of work, and the events that they make. Whoever runs it decides when a unit
// runs; what it computes depends on the job's start alone. Knows no threads, queues or files.

import type { AdapterTargets } from "../kernels/adapter.ts";
import type { ForwardProbes } from "../kernels/forward-probes.ts";
import type { TrainingKernel } from "../kernels/training/training-kernel.ts";
import type { TrainingUnit } from "../kernels/training/training-pass.ts";
import { ExampleOrder } from "./example-order.ts";
import { ExamplePasses } from "./example-passes.ts";
import { kernelPasses, servingPasses } from "./forward-passes.ts";
import type { JobEvent, JobProblem, JobStart } from "./job.ts";
import { adapterOf, checkpointOf, type JobProgress, restoreCheckpoint } from "./job-state.ts";
import { largestUnit } from "./largest-window.ts";
import { methods } from "./methods/index.ts";
import type { Method, Prepared, StepResult } from "./methods/method.ts";
import { inUnits, type Pieces } from "./pieces.ts";
import { schedules } from "./schedules/index.ts";
import { rateFactor } from "./schedules/schedule.ts";
import { measuredOf } from "./totals.ts";

export type TrainingJobOptions = {
  readonly kernel: TrainingKernel;
  readonly probes: ForwardProbes;
  readonly targets: AdapterTargets;
  readonly report: (event: JobEvent) => void;
};

type Changing = {
  readonly result: StepResult;
  readonly learningRate: number;
  readonly left: (() => void)[]; // of the result's changes
};

const copiedBytesPerUnit = 2 ** 22; // some milliseconds

export class TrainingJob {
  readonly #start: JobStart;
  readonly #report: (event: JobEvent) => void;
  readonly #order: ExampleOrder;
  readonly #validation: ExamplePasses | null;
  readonly #prepared: Prepared;
  #changing: Changing | null = null; // from when a step's result is there until it counts
  #checkpoint: Pieces<void> | null = null; // under way
  #progress: JobProgress = {
    step: 0,
    isPrepared: false,
    checkedStep: 0,
    skipped: { total: 0, inRow: 0 },
  };

  /**
   * @throws SettingsError `training_settings_invalid`
   * @throws RangeError for a checkpoint of another job
   */
  constructor(start: JobStart, { kernel, probes, targets, report }: TrainingJobOptions) {
    const { training, validation, from, checkpoint } = start;
    const method: Method = methods[start.spec.method.name];
    // Whoever makes a spec resolves it by the same bound: here it only holds for one made otherwise.
    const windowTokens = Math.min(start.spec.windowTokens, largestUnit(method, targets));
    const spec = { ...start.spec, windowTokens };
    this.#start = start;
    this.#report = report;
    report({ type: "preparing" });
    const forward = method.backward
      ? kernelPasses(kernel, { windowTokens, precision: spec.precision })
      : servingPasses(probes, windowTokens);
    const passes = new ExamplePasses({ kernel, forward, spec, examples: training });
    this.#order = new ExampleOrder({ examples: passes.count, ...spec });
    this.#validation =
      validation === null ? null : new ExamplePasses({ kernel, forward, spec, examples: validation });
    this.#prepared = method.open({ kernel, targets, spec, steps: this.#order.steps, passes, from });
    if (checkpoint !== null) this.#progress = restoreCheckpoint(this.#prepared, checkpoint);
  }

  /** Each unit is to be run before the next is asked for. Ends after reporting `finished`, or `paused` with a reason. */
  *units(): Generator<TrainingUnit, void, void> {
    const { trainable, stepper, prepare } = this.#prepared;
    const { steps } = this.#order;
    if (!this.#progress.isPrepared) {
      yield* prepare();
      this.#progress = { ...this.#progress, isPrepared: true };
    }
    this.#report({ type: "started", steps, parameters: trainable.flat.length });
    // The adapter of the last step may not have been published yet.
    if (this.#progress.step === steps || this.#isUnchecked()) yield* this.#check();
    while (this.#progress.step < steps) {
      const index = this.#progress.step;
      const learningRate = this.#learningRate(index);
      const examples = yield* this.#order.at(index);
      const result = yield* stepper.step({ index, examples, learningRate });
      this.#changing = { result, learningRate, left: [...result.changes] };
      while (this.#changing.left.length > 0) yield this.#change(this.#changing.left);
      this.#stepDone();
      const problem = this.#problem();
      if (problem !== null) {
        this.#progress = { ...this.#progress, skipped: { ...this.#progress.skipped, inRow: 0 } };
        yield* this.#keep();
        this.#report({ type: "paused", reason: problem });
        return;
      }
      if (this.#isUnchecked()) yield* this.#check();
    }
    this.#report({ type: "finished" });
  }

  /** Whether the last step is one that is validated and checkpointed, and was not yet. */
  #isUnchecked(): boolean {
    const { step, checkedStep } = this.#progress;
    return (
      step > checkedStep && (step % this.#start.spec.checkpointSteps === 0 || step === this.#order.steps)
    );
  }

  *#check(): Generator<TrainingUnit, void, void> {
    const { step, checkedStep } = this.#progress;
    if (checkedStep < step) yield* this.#validate();
    this.#progress = { ...this.#progress, checkedStep: step };
    yield* this.#keep();
  }

  /** In place of what is left of `units`: ends after reporting the state after the last whole step, and `paused`. */
  *pause(): Generator<TrainingUnit, void, void> {
    const { left, result } = this.#changing ?? {};
    if (left !== undefined && left.length < result!.changes.length) {
      while (left.length > 0) yield this.#change(left);
      this.#stepDone();
    }
    yield* inUnits(this.#checkpoint ?? this.#makeCheckpoint(), copiedBytesPerUnit);
    this.#report({ type: "paused", reason: null });
  }

  #change(left: (() => void)[]): TrainingUnit {
    return { kind: "update", tokens: 0, run: async () => left.shift()!() };
  }

  #learningRate(step: number): number {
    const { schedule, learningRate, warmupSteps } = this.#start.spec;
    return (
      learningRate * rateFactor(schedules[schedule], step, { warmup: warmupSteps, total: this.#order.steps })
    );
  }

  #stepDone(): void {
    const { result, learningRate } = this.#changing!;
    this.#changing = null;
    const { step, skipped } = this.#progress;
    this.#progress = {
      ...this.#progress,
      step: step + 1,
      skipped: result.skipped
        ? { total: skipped.total + 1, inRow: skipped.inRow + 1 }
        : { total: skipped.total, inRow: 0 },
    };
    const { changes: _, ...measured } = result;
    this.#report({ type: "step", step: step + 1, learningRate, ...measured });
  }

  /** Why the job cannot go on, if so. */
  #problem(): JobProblem | null {
    const { inRow } = this.#progress.skipped;
    const { maxSkippedSteps, learningRate } = this.#start.spec;
    if (inRow < maxSkippedSteps) return null;
    return {
      code: "training_not_finite",
      message: `the loss, the gradients or the new values of ${inRow} steps in a row were not finite, and those steps were skipped; start again with a learning rate below ${learningRate}, or resume to go on with the next examples`,
    };
  }

  *#validate(): Generator<TrainingUnit, void, void> {
    if (this.#validation === null || this.#validation.count === 0) return;
    const totals = yield* this.#validation.measure(this.#prepared.trainable.modules());
    this.#report({ type: "validation", step: this.#progress.step, ...measuredOf(totals) });
  }

  *#keep(): Generator<TrainingUnit, void, void> {
    this.#checkpoint = this.#makeCheckpoint();
    yield* inUnits(this.#checkpoint, copiedBytesPerUnit);
  }

  /** Copies what is to be kept and served, in bytes, and reports it. */
  *#makeCheckpoint(): Pieces<void> {
    const checkpoint = yield* checkpointOf(this.#prepared, this.#progress);
    const adapter = yield* adapterOf(this.#prepared.trainable);
    this.#checkpoint = null;
    this.#report({ type: "checkpoint", checkpoint, adapter });
  }
}
