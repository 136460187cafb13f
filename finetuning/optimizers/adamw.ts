// AdamW (Loshchilov and Hutter, arXiv 1711.05101) as torch.optim.AdamW computes it; its two moments in float32 or in
// 8 bits.

import { byteMoments, floatMoments, type Moments, momentBlock } from "./moments.ts";
import { type Optimizer, type OptimizerKind, type OptimizerState, restoreArrays } from "./optimizer.ts";

const defaults = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 };
type Settings = Readonly<Record<keyof typeof defaults, number>>;

export const adamw: OptimizerKind<keyof typeof defaults> = {
  defaults,
  stateBytesPerParameter: 8,
  create: (parameters, settings) =>
    new AdamW(settings, floatMoments("mean", parameters), floatMoments("square", parameters)),
};

export const adamw8bit: OptimizerKind<keyof typeof defaults> = {
  defaults,
  stateBytesPerParameter: 2 + 8 / momentBlock,
  create: (parameters, settings) =>
    new AdamW(
      settings,
      byteMoments("mean", parameters, "means"),
      byteMoments("square", parameters, "squares"),
    ),
};

class AdamW implements Optimizer {
  readonly #settings: Settings;
  readonly #means: Moments;
  readonly #squares: Moments;
  readonly #mean = new Float32Array(momentBlock);
  readonly #square = new Float32Array(momentBlock);
  #steps = 0;

  constructor(settings: Settings, means: Moments, squares: Moments) {
    this.#settings = settings;
    this.#means = means;
    this.#squares = squares;
  }

  step(parameters: Float32Array, gradients: Float32Array, learningRate: number): void {
    this.#steps++;
    const { beta1, beta2, epsilon, weightDecay } = this.#settings;
    const stepSize = learningRate / (1 - beta1 ** this.#steps);
    const squareRoot = Math.sqrt(1 - beta2 ** this.#steps);
    const kept = 1 - learningRate * weightDecay;
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
        const change = (stepSize * m) / (Math.sqrt(v) / squareRoot + epsilon);
        parameters[start + i] = parameters[start + i]! * kept - change;
      }
      this.#means.write(block, mean);
      this.#squares.write(block, square);
    }
  }

  state(): OptimizerState {
    return { steps: this.#steps, arrays: { ...this.#means.arrays, ...this.#squares.arrays } };
  }

  restore(state: OptimizerState): void {
    restoreArrays(this.state().arrays, state);
    this.#steps = state.steps;
  }
}
