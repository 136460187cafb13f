// Which ranks AdaLoRA keeps (Zhang et al., arXiv 2303.10512): a falling budget, and scores of ranks from how much their
// values matter to the loss. Knows numbers in rows; what a rank is made of, its caller says.

export type BudgetSchedule = {
  readonly initial: number; // ranks in all
  readonly target: number;
  readonly firstStep: number; // until which all ranks stay
  readonly lastStep: number; // from which on the target holds, and the choice stays
  readonly interval: number; // steps between two choices
};

/** Equation 12: from the initial budget down to the target, by a cubic. @param done steps that are done */
export function rankBudget(done: number, schedule: BudgetSchedule): number {
  const { initial, target, firstStep, lastStep } = schedule;
  if (done <= firstStep) return initial;
  if (done >= lastStep) return target;
  const left = 1 - (done - firstStep) / (lastStep - firstStep);
  return Math.floor((initial - target) * left ** 3 + target);
}

/** Places of a rank's values. */
export type RankPlaces = {
  readonly value: number; // of the singular value
  readonly a: { readonly from: number; readonly to: number };
  readonly b: { readonly from: number; readonly to: number };
};

const decay = 0.85; // of both averages

/** How much the loss would change without a value, smoothed over steps, and how unsure that is: equations 8 to 11. */
export class Importance {
  readonly sensitivity: Float32Array<ArrayBuffer>;
  readonly uncertainty: Float32Array<ArrayBuffer>;

  constructor(values: number) {
    this.sensitivity = new Float32Array(values);
    this.uncertainty = new Float32Array(values);
  }

  /** Of a part of the values. */
  add(values: Float32Array, gradient: Float32Array, { from, to }: RankPlaces["a"]): void {
    const { sensitivity, uncertainty } = this;
    for (let i = from; i < to; i++) {
      const now = Math.abs(values[i]! * gradient[i]!);
      sensitivity[i] = decay * sensitivity[i]! + (1 - decay) * now;
      uncertainty[i] = decay * uncertainty[i]! + (1 - decay) * Math.abs(now - sensitivity[i]!);
    }
  }

  /** Whether any of a part of the values ever mattered. */
  isKnown({ from, to }: RankPlaces["a"]): boolean {
    return this.sensitivity.subarray(from, to).some((value) => value > 0);
  }

  /** A rank's own value and the means of its two vectors: equation 7. */
  score({ value, a, b }: RankPlaces): number {
    return this.#of(value) + this.#mean(a) + this.#mean(b);
  }

  #mean({ from, to }: RankPlaces["a"]): number {
    let sum = 0;
    for (let i = from; i < to; i++) sum += this.#of(i);
    return sum / (to - from);
  }

  #of(place: number): number {
    return this.sensitivity[place]! * this.uncertainty[place]!;
  }
}

/** The `budget` highest scores; of equal ones the first. @returns for each whether it is kept */
export function highest(scores: readonly number[], budget: number): Uint8Array<ArrayBuffer> {
  const order = Array.from(scores.keys()).sort((one, other) => scores[other]! - scores[one]! || one - other);
  const kept = new Uint8Array(scores.length);
  for (const rank of order.slice(0, budget)) kept[rank] = 1;
  return kept;
}
