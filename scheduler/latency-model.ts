// How long a run takes, as a linear function of its features, learnt while the engine runs: recursive least squares
// of the relative error with exponential forgetting, coefficients that are never negative, and outliers (a garbage
// collection, a busy neighbour) weighted down. Knows no meaning of a feature.

const forgetting = 0.99; // a run's weight halves every 69 runs
const firstRuns = 12; // before these there is no prediction
const recentErrors = 64;
const huberSpread = 3; // a residual beyond this many median residuals counts less, as in Huber's M-estimator
const ridge = 1e-9; // of the largest diagonal entry; keeps features that never varied from dividing by zero
const sweeps = 30; // of coordinate descent from the last solution; measured to be enough for six features

export class LatencyModel {
  readonly #coefficients: Float64Array;
  readonly #gram: Float64Array; // [features, features]: sum of w x xᵀ, forgotten exponentially
  readonly #moments: Float64Array; // [features]: sum of w x y
  readonly #errors: number[] = []; // newest runs' |predicted - measured| / measured, a ring
  #runs = 0;

  constructor(features: number) {
    this.#coefficients = new Float64Array(features);
    this.#gram = new Float64Array(features * features);
    this.#moments = new Float64Array(features);
  }

  /** Milliseconds; null before there were enough runs. */
  predict(features: readonly number[]): number | null {
    return this.#runs < firstRuns ? null : this.#value(features);
  }

  /** Median of the newest runs' relative errors, each of a prediction made before its run; null without any. */
  get error(): number | null {
    return this.#errors.length === 0 ? null : median(this.#errors);
  }

  observe(features: readonly number[], measuredMs: number): void {
    if (!(measuredMs > 0) || !Number.isFinite(measuredMs)) return; // a clock's tick, not a run
    const error = Math.abs(this.#value(features) - measuredMs) / measuredMs;
    const weight = this.#weightOf(error) / measuredMs ** 2;
    if (this.#runs >= firstRuns) this.#errors[(this.#runs - firstRuns) % recentErrors] = error;
    this.#runs++;
    const size = features.length;
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        const at = i * size + j;
        this.#gram[at] = forgetting * this.#gram[at]! + weight * features[i]! * features[j]!;
      }
      this.#moments[i] = forgetting * this.#moments[i]! + weight * features[i]! * measuredMs;
    }
    this.#solve();
  }

  #value(features: readonly number[]): number {
    return features.reduce((sum, feature, index) => sum + feature * this.#coefficients[index]!, 0);
  }

  /** When every run is off, the machine has changed and the median residual says so: then none is an outlier. */
  #weightOf(error: number): number {
    if (this.#errors.length < firstRuns) return 1;
    const limit = Math.max(huberSpread * median(this.#errors), 0.01);
    return error <= limit ? 1 : limit / error;
  }

  /** Non-negative least squares by coordinate descent, which converges because the problem is convex. */
  #solve(): void {
    const size = this.#moments.length;
    let isMoving = true;
    for (let sweep = 0; sweep < sweeps && isMoving; sweep++) {
      isMoving = false;
      for (let i = 0; i < size; i++) {
        const own = this.#gram[i * size + i]!;
        if (own === 0) continue;
        let gradient = this.#moments[i]!;
        for (let j = 0; j < size; j++) {
          if (j !== i) gradient -= this.#gram[i * size + j]! * this.#coefficients[j]!;
        }
        const solved = Math.max(0, gradient / (own * (1 + ridge)));
        isMoving ||= solved !== this.#coefficients[i];
        this.#coefficients[i] = solved;
      }
    }
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}
