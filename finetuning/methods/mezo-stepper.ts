// A step by forward passes alone (MeZO, arXiv 2305.17333): the loss at the values plus and minus epsilon times random
// signs gives the slope along them, and the step goes down that slope. The two are adapters side by side. The signs
// follow from a seed, so the steps are a seed ledger. Knows no gradients and no optimizer.

import type { LedgerStep } from "../../adapters-store/codecs/ledger.ts";
import { mix } from "../../kernels/sampling/random.ts";
import { type TrainingUnit, updateUnit } from "../../kernels/training/training-pass.ts";
import { measureEach } from "../example-pass.ts";
import type { ExamplePasses } from "../example-passes.ts";
import type { Measured } from "../job.ts";
import type { LowRankTrainable } from "./low-rank/low-rank-trainable.ts";
import type { State, Step, Stepper, StepResult } from "./method.ts";
import type { SeedLedger } from "./seed-ledger.ts";

export type MezoOptions = {
  readonly passes: ExamplePasses;
  readonly ledger: SeedLedger;
  readonly epsilon: number;
  readonly seed: number;
  readonly maxSlope: number; // 0 = slopes are not clipped
};

export class MezoStepper implements Stepper {
  readonly #trainable: LowRankTrainable;
  readonly #options: MezoOptions;

  constructor(trainable: LowRankTrainable, options: MezoOptions) {
    this.#trainable = trainable;
    this.#options = options;
  }

  *step({ index, examples, learningRate }: Step): Generator<TrainingUnit, StepResult, void> {
    const { passes, ledger, epsilon, maxSlope } = this.#options;
    yield* ledger.replay();
    const taken = passes.of(examples);
    const seed = stepSeed(this.#options.seed, index);
    const probes = [
      yield* this.#moved({ seed, scalar: epsilon }),
      yield* this.#moved({ seed, scalar: -epsilon }),
    ];
    const losses = yield* measureEach(
      taken,
      probes.map((values) => this.#trainable.modules(values)),
    );
    const [up, down] = [losses[0]!, losses[1]!];
    const measured = meanOf(up, down);
    const tokens = 2 * taken.reduce((sum, pass) => sum + pass.tokens, 0);
    const slope = clipped((up.loss - down.loss) / (2 * epsilon), maxSlope);
    const scalar = Math.fround(-learningRate * slope); // as the ledger holds it
    const skipped = !Number.isFinite(scalar);
    const changes = skipped ? [] : ledger.changes({ seed, scalar }, this.#trainable.flat);
    return { ...measured, tokens, gradientNorm: null, skipped, changes };
  }

  state(): State {
    return this.#options.ledger.state();
  }

  restore(state: State): void {
    this.#options.ledger.restore(state);
  }

  /** The values and a step from there. */
  *#moved(step: LedgerStep): Generator<TrainingUnit, Float32Array, void> {
    const { flat } = this.#trainable;
    const moved = new Float32Array(flat.length);
    yield updateUnit(() => this.#options.ledger.probe(flat, step, moved));
    return moved;
  }
}

/** Of a job's step: the signs that it moves along. */
export function stepSeed(jobSeed: number, index: number): number {
  return mix(mix(jobSeed ^ 0x5bd1e995) + index);
}

function clipped(slope: number, largest: number): number {
  return largest === 0 ? slope : Math.max(-largest, Math.min(largest, slope));
}

function meanOf(one: Measured, other: Measured): Measured {
  const metrics = Object.entries(one.metrics).map(([name, value]) => [
    name,
    (value + other.metrics[name]!) / 2,
  ]);
  return { loss: (one.loss + other.loss) / 2, metrics: Object.fromEntries(metrics) };
}
