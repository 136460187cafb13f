// AdamW (Loshchilov and Hutter, arXiv 1711.05101) as torch.optim.AdamW computes it; its two moments in float32 or in
// 8 bits.

import { byteMoments, floatMoments, forgetMoments, type Moments, momentBlock } from "./moments.ts";
import { type Optimizer, type OptimizerKind, type OptimizerState, restoreArrays } from "./optimizer.ts";

const defaults = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 };
type Settings = Readonly<Record<keyof typeof defaults, number>>;

export const adamw: OptimizerKind<keyof typeof defaults> = {
  defaults,
  stateBytesPerParameter: 8,
  learningRateFactor: 1,
  create: (parameters, settings) =>
    new AdamW(parameters, settings, {
      means: floatMoments("mean", parameters),
      squares: floatMoments("square", parameters),
    }),
};

export const adamw8bit: OptimizerKind<keyof typeof defaults> = {
  defaults,
  stateBytesPerParameter: 2 + 8 / momentBlock,
  learningRateFactor: 1,
  create: (parameters, settings) =>
    new AdamW(parameters, settings, {
      means: byteMoments("mean", parameters, "means"),
      squares: byteMoments("square", parameters, "squares"),
    }),
};

class AdamW implements Optimizer {
  readonly #size: number;
  readonly #settings: Settings;
  readonly #means: Moments;
  readonly #squares: Moments;
  readonly #mean = new Float32Array(momentBlock);
  readonly #square = new Float32Array(momentBlock);
  #steps = 0;
  #born: Float32Array<ArrayBuffer> | null = null; // the step after which each was forgotten last, once any was

  constructor(
    size: number,
    settings: Settings,
    { means, squares }: { readonly means: Moments; readonly squares: Moments },
  ) {
    this.#size = size;
    this.#settings = settings;
    this.#means = means;
    this.#squares = squares;
  }

  step(parameters: Float32Array, gradients: Float32Array, learningRate: number): void {
    this.#steps++;
    const { beta1, beta2, epsilon, weightDecay } = this.#settings;
    let age = this.#steps;
    let stepSize = learningRate / (1 - beta1 ** age);
    let squareRoot = Math.sqrt(1 - beta2 ** age);
    const kept = 1 - learningRate * weightDecay;
    const born = this.#born;
    const mean = this.#mean;
    const square = this.#square;
    for (let block = 0; block * momentBlock < parameters.length; block++) {
      const start = block * momentBlock;
      const count = Math.min(momentBlock, parameters.length - start);
      this.#means.read(block, mean);
      this.#squares.read(block, square);
      for (let i = 0; i < count; i++) {
        const gradient = gradients[start + i]!;
        const m = beta1 * mean[i]! + (1 - beta1) * gradient;
        const v = beta2 * square[i]! + (1 - beta2) * gradient * gradient;
        mean[i] = m;
        square[i] = v;
        if (born !== null && age !== this.#steps - born[start + i]!) {
          age = this.#steps - born[start + i]!;
          stepSize = learningRate / (1 - beta1 ** age);
          squareRoot = Math.sqrt(1 - beta2 ** age);
        }
        const change = (stepSize * m) / (Math.sqrt(v) / squareRoot + epsilon);
        parameters[start + i] = parameters[start + i]! * kept - change;
      }
      this.#means.write(block, mean);
      this.#squares.write(block, square);
    }
  }

  /** Their moments start at zero, and so does the count that corrects for that. */
  forget(places: ArrayLike<number>): void {
    forgetMoments(this.#means, places);
    forgetMoments(this.#squares, places);
    this.#born ??= new Float32Array(this.#size);
    for (let i = 0; i < places.length; i++) this.#born[places[i]!] = this.#steps;
  }

  state(): OptimizerState {
    const born = this.#born === null ? {} : { born: this.#born };
    return { steps: this.#steps, arrays: { ...this.#means.arrays, ...this.#squares.arrays, ...born } };
  }

  restore(state: OptimizerState): void {
    this.#born = state.arrays.born === undefined ? null : new Float32Array(this.#size);
    restoreArrays(this.state().arrays, state);
    this.#steps = state.steps;
  }
}
