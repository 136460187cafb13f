// Lion (Chen et al., arXiv 2302.06675, algorithm 2): steps of one size, by the sign of an interpolated mean.

import { OneMomentOptimizer, type OptimizerKind } from "./optimizer.ts";

const defaults = { beta1: 0.9, beta2: 0.99, weightDecay: 0 };
type Settings = Readonly<Record<keyof typeof defaults, number>>;

export const lion: OptimizerKind<keyof typeof defaults> = {
  defaults,
  stateBytesPerParameter: 4,
  learningRateFactor: 0.3, // its authors have 0.1 to 0.33; docs/experiments.md
  create: (parameters, settings) => new Lion(parameters, settings),
};

class Lion extends OneMomentOptimizer {
  readonly #settings: Settings;

  constructor(parameters: number, settings: Settings) {
    super("mean", parameters);
    this.#settings = settings;
  }

  step(parameters: Float32Array, gradients: Float32Array, learningRate: number): void {
    this.steps++;
    const { beta1, beta2, weightDecay } = this.#settings;
    const mean = this.moment;
    for (let i = 0; i < parameters.length; i++) {
      const gradient = gradients[i]!;
      const direction = Math.sign(beta1 * mean[i]! + (1 - beta1) * gradient);
      parameters[i] = parameters[i]! - learningRate * (direction + weightDecay * parameters[i]!);
      mean[i] = beta2 * mean[i]! + (1 - beta2) * gradient;
    }
  }
}
