// Exact samples of one quantity: merged by concatenation, so quantiles over workers and groups are those of the
// whole, with no bucket error. A million samples are 8 MB.

export type Quantiles = {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
};

export class Samples {
  #values = new Float64Array(16);
  #count = 0;
  #isSorted = true;

  get count(): number {
    return this.#count;
  }

  add(value: number): void {
    this.#reserve(this.#count + 1);
    this.#values[this.#count++] = value;
    this.#isSorted = false;
  }

  merge(other: Samples): void {
    this.#reserve(this.#count + other.#count);
    this.#values.set(other.#values.subarray(0, other.#count), this.#count);
    this.#count += other.#count;
    this.#isSorted = false;
  }

  /** The smallest sample that at least this share of the samples do not exceed; NaN without samples. */
  quantile(share: number): number {
    return this.sorted()[Math.max(0, Math.ceil(share * this.#count) - 1)] ?? Number.NaN;
  }

  /** NaN everywhere without samples; JSON has null there. */
  quantiles(): Quantiles {
    const sum = this.sorted().reduce((total, value) => total + value, 0);
    const [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1].map((share) => this.quantile(share)) as Four;
    return { count: this.#count, mean: sum / this.#count, p50, p90, p99, max };
  }

  /** A view; valid until the next change. */
  sorted(): Float64Array {
    const values = this.#values.subarray(0, this.#count);
    if (!this.#isSorted) values.sort();
    this.#isSorted = true;
    return values;
  }

  #reserve(count: number): void {
    if (count <= this.#values.length) return;
    const larger = new Float64Array(Math.max(count, 2 * this.#values.length));
    larger.set(this.#values.subarray(0, this.#count));
    this.#values = larger;
  }
}

type Four = [number, number, number, number];
