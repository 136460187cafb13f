// Which examples a step takes: a pure function of the seed and the step, so a resumed job takes the same.

import { mix, randomAt } from "../kernels/sampling/random.ts";
import type { TrainingUnit } from "../kernels/training/training-pass.ts";
import { atOnce, inUnits, type Pieces } from "./pieces.ts";

export type ExampleOrderOptions = {
  readonly examples: number;
  readonly batchSize: number;
  readonly epochs: number;
  readonly seed: number;
};

export class ExampleOrder {
  readonly steps: number;
  readonly #options: ExampleOrderOptions;
  readonly #stepsPerEpoch: number;
  #epoch = -1;
  #shuffled = new Uint32Array(0); // of `#epoch`

  constructor(options: ExampleOrderOptions) {
    this.#options = options;
    this.#stepsPerEpoch = Math.ceil(options.examples / options.batchSize);
    this.steps = options.epochs * this.#stepsPerEpoch;
  }

  /** Every example once per epoch; an epoch's last step may have fewer. Units where a step begins an epoch. */
  *at(step: number): Generator<TrainingUnit, readonly number[], void> {
    const { examples, batchSize, seed } = this.#options;
    const epoch = Math.floor(step / this.#stepsPerEpoch);
    if (epoch !== this.#epoch) {
      this.#shuffled = yield* shuffling(examples, mix(seed + mix(epoch)));
      this.#epoch = epoch;
    }
    const first = (step % this.#stepsPerEpoch) * batchSize;
    return Array.from(this.#shuffled.subarray(first, first + batchSize));
  }
}

const swapsPerPiece = 2 ** 12;
const swapsPerUnit = 2 ** 17; // some ten milliseconds

/** 0 to `count` - 1 in random order, in units. */
export function shuffling(count: number, seed: number): Generator<TrainingUnit, ShuffledNumbers, void> {
  return inUnits(shuffle(count, seed), swapsPerUnit);
}

/** As `shuffling`, of few. */
export function shuffled(count: number, seed: number): ShuffledNumbers {
  return atOnce(shuffle(count, seed));
}

type ShuffledNumbers = Uint32Array<ArrayBuffer>;

/** Fisher and Yates. */
function* shuffle(count: number, seed: number): Pieces<ShuffledNumbers> {
  const order = new Uint32Array(count);
  for (let index = 1; index < count; index++) order[index] = index;
  for (let last = count - 1; last > 0; last--) {
    const other = Math.floor(randomAt(seed, last) * (last + 1));
    const drawn = order[other]!;
    order[other] = order[last]!;
    order[last] = drawn;
    if (last % swapsPerPiece === 0) yield swapsPerPiece;
  }
  return order;
}
