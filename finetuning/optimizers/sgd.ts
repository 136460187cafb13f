// Stochastic gradient descent with momentum, as torch.optim.SGD computes it (weight decay added to the gradient).

import { OneMomentOptimizer, type OptimizerKind } from "./optimizer.ts";

const defaults = { momentum: 0, weightDecay: 0 };
type Settings = Readonly<Record<keyof typeof defaults, number>>;

export const sgd: OptimizerKind<keyof typeof defaults> = {
  defaults,
  stateBytesPerParameter: 4,
  learningRateFactor: null,
  create: (parameters, settings) => new Sgd(parameters, settings),
};

class Sgd extends OneMomentOptimizer {
  readonly #settings: Settings;

  constructor(parameters: number, settings: Settings) {
    super("velocity", parameters);
    this.#settings = settings;
  }

  step(parameters: Float32Array, gradients: Float32Array, learningRate: number): void {
    this.steps++;
    const { momentum, weightDecay } = this.#settings;
    const velocity = this.moment;
    for (let i = 0; i < parameters.length; i++) {
      const gradient = gradients[i]! + weightDecay * parameters[i]!;
      velocity[i] = momentum * velocity[i]! + gradient;
      parameters[i] = parameters[i]! - learningRate * velocity[i]!;
    }
  }
}
