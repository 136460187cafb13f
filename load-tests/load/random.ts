// Seeded random draws for workloads: uniform, exponential, normal, gamma. The same words of seed give the same
// draws in every worker process. Not for secrets.

/** sfc32 (Doty-Humphrey, PractRand): 128 bits of state, four additions and two shifts a draw. */
export class Random {
  readonly #state: Int32Array;

  /** @param words name the stream of draws: a seed, then whatever tells one use of it from another */
  constructor(...words: readonly number[]) {
    this.#state = Int32Array.from([0x9e3779b9, 0x243f6a88, 0xb7e15162, 1]);
    for (const word of words) {
      this.#state[0]! ^= word;
      this.#state[1]! ^= Math.floor(word / 2 ** 32);
      for (let turn = 0; turn < 16; turn++) this.#next(); // each word has reached all of the state
    }
  }

  /** In [0, 1), with 53 random bits. */
  uniform(): number {
    return ((this.#next() >>> 5) * 0x4000000 + (this.#next() >>> 6)) / 0x20000000000000;
  }

  /** @returns a whole number in [0, below) */
  below(below: number): number {
    return Math.floor(this.uniform() * below);
  }

  /** Mean 1. */
  exponential(): number {
    return -Math.log(1 - this.uniform());
  }

  /** Mean 0, variance 1 (Box and Muller; the second of each pair is not used). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Mean `shape`, variance `shape` (Marsaglia and Tsang 2000, with their boost for shapes under one). */
  gamma(shape: number): number {
    if (shape < 1) return this.gamma(shape + 1) * (1 - this.uniform()) ** (1 / shape);
    const d = shape - 1 / 3;
    const c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const x = this.normal();
      const v = (1 + c * x) ** 3;
      if (v <= 0) continue;
      const u = 1 - this.uniform();
      if (Math.log(u) < x ** 2 / 2 + d - d * v + d * Math.log(v)) return d * v;
    }
  }

  #next(): number {
    const state = this.#state;
    const [a, b, c, counter] = state as unknown as [number, number, number, number];
    const result = (a + b + counter) | 0;
    state[0] = b ^ (b >>> 9);
    state[1] = (c + (c << 3)) | 0;
    state[2] = (((c << 21) | (c >>> 11)) + result) | 0;
    state[3] = (counter + 1) | 0;
    return result;
  }
}
