// The contract of an optimizer: flat arrays in, flat arrays moved. Knows no modules, schedules or jobs.

export interface Optimizer {
  /** Moves `parameters` against `gradients`, element by element. */
  step(parameters: Float32Array, gradients: Float32Array, learningRate: number): void;
  /** From now on the elements at these places, ascending, are as new to the optimizer. */
  forget(places: ArrayLike<number>): void;
  /** Everything that the next step depends on, as live views: a checkpoint copies them. */
  state(): OptimizerState;
  /** @throws RangeError for a state of another optimizer or another number of parameters */
  restore(state: OptimizerState): void;
}

export type OptimizerState = {
  readonly steps: number;
  readonly arrays: Readonly<Record<string, Float32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>>>;
};

/** A member of the registry. Settings are all numbers, each with a default; `create` is given every one of them. */
export interface OptimizerKind<Setting extends string = string> {
  readonly defaults: Readonly<Record<Setting, number>>;
  create(parameters: number, settings: Readonly<Record<Setting, number>>): Optimizer;
  readonly stateBytesPerParameter: number;
  /**
   * Of the methods' own learning rates, which are AdamW's. Null = a step is as long as its gradient, so that the rate
   * is the data's and the base's.
   */
  readonly learningRateFactor: number | null;
}

export function restoreArrays(own: OptimizerState["arrays"], state: OptimizerState): void {
  for (const [name, array] of Object.entries(own)) {
    const stored = state.arrays[name];
    if (stored?.length !== array.length || stored.BYTES_PER_ELEMENT !== array.BYTES_PER_ELEMENT) {
      throw new RangeError(`the optimizer's state has no "${name}" of ${array.length} values`);
    }
    array.set(stored);
  }
}

function forgetValues(values: Float32Array, places: ArrayLike<number>): void {
  for (let i = 0; i < places.length; i++) values[places[i]!] = 0;
}

/** An optimizer whose state is one running value per parameter. */
export abstract class OneMomentOptimizer implements Optimizer {
  protected readonly moment: Float32Array<ArrayBuffer>;
  protected steps = 0;
  readonly #name: string;

  /** @param name of the values in a checkpoint */
  constructor(name: string, parameters: number) {
    this.#name = name;
    this.moment = new Float32Array(parameters);
  }

  abstract step(parameters: Float32Array, gradients: Float32Array, learningRate: number): void;

  forget(places: ArrayLike<number>): void {
    forgetValues(this.moment, places);
  }

  state(): OptimizerState {
    return { steps: this.steps, arrays: { [this.#name]: this.moment } };
  }

  restore(state: OptimizerState): void {
    restoreArrays(this.state().arrays, state);
    this.steps = state.steps;
  }
}
