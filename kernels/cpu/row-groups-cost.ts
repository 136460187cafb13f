// What a decode run costs on this machine, learned from the runs themselves: so much for reading the weights, so
// much per row, so much per token of capacity. Least squares over relative errors; old runs fade, and a prior holds
// what the runs so far cannot tell apart.

import type { GroupCost } from "./row-groups.ts";

export type MeasuredRun = {
  readonly rows: number;
  readonly tokens: number; // rows times capacity
  readonly ms: number;
};

const priorBytesPerMs = 20e6; // attention's reads of keys and values
const priorRunRows = 3; // reading the weights, in rows
const priorWeight = 0.3; // runs
const fading = 0.99;
/** A coefficient stays within this factor of its prior, whatever a busy machine measures. */
const farthest = 20;

type Triple = readonly [number, number, number];

export class RunCost {
  readonly #tokenBytes: number;
  #prior: Triple | null = null; // run, row, token; known once the first run gave the scale
  #squares: number[][] = zeros(); // in units of the prior
  #products = [0, 0, 0];
  #solution: Triple = [1, 1, 1];

  constructor(bytesPerToken: number) {
    this.#tokenBytes = bytesPerToken;
  }

  /** Null until a run was measured. */
  get current(): (GroupCost & { readonly rowMs: number }) | null {
    if (this.#prior === null) return null;
    const [runMs, rowMs, tokenMs] = this.#prior.map((value, i) => value * this.#solution[i]!) as [
      number,
      number,
      number,
    ];
    return { runMs, rowMs, tokenMs };
  }

  observe({ rows, tokens, ms }: MeasuredRun): void {
    if (this.#prior === null) {
      const tokenMs = this.#tokenBytes / priorBytesPerMs;
      const rowMs = Math.max(ms - tokens * tokenMs, ms / 4) / (priorRunRows + rows);
      this.#prior = [rowMs * priorRunRows, rowMs, tokenMs];
    }
    const x = [1, rows, tokens].map((value, i) => (value * this.#prior![i]!) / ms);
    for (let i = 0; i < 3; i++) {
      this.#products[i] = this.#products[i]! * fading + x[i]!;
      for (let j = 0; j < 3; j++) this.#squares[i]![j] = this.#squares[i]![j]! * fading + x[i]! * x[j]!;
    }
    this.#solution = this.#solve();
  }

  /** (squares + priorWeight I) s = products + priorWeight 1, by Cramer's rule. */
  #solve(): Triple {
    const matrix = this.#squares.map((row, i) => row.map((value, j) => value + (i === j ? priorWeight : 0)));
    const right = this.#products.map((value) => value + priorWeight);
    const whole = determinant(matrix);
    return [0, 1, 2].map((column) => {
      const replaced = matrix.map((row, i) => row.map((value, j) => (j === column ? right[i]! : value)));
      return Math.min(farthest, Math.max(1 / farthest, determinant(replaced) / whole));
    }) as [number, number, number];
  }
}

function zeros(): number[][] {
  return [0, 1, 2].map(() => [0, 0, 0]);
}

function determinant(m: readonly (readonly number[])[]): number {
  const [a, b, c] = m as [Triple, Triple, Triple];
  return (
    a[0] * (b[1] * c[2] - b[2] * c[1]) -
    a[1] * (b[0] * c[2] - b[2] * c[0]) +
    a[2] * (b[0] * c[1] - b[1] * c[0])
  );
}
