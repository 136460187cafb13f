// What was spent of an amount per minute. What is spent flows back evenly, a whole limit within a minute, so there is
// no edge of a minute at which twice the limit passes.

const windowMs = 60_000;
const rounding = 1e-6; // amounts are whole: so little is left of one by sums that were rounded

export class RateWindow {
  #spent = 0;
  #atMs = 0;

  spent(limit: number, nowMs: number): number {
    const elapsedMs = Math.max(0, nowMs - this.#atMs); // the clock may be set back
    this.#spent = Math.max(0, this.#spent - (elapsedMs * limit) / windowMs);
    this.#atMs = nowMs;
    return this.#spent;
  }

  /** Until `amount` fits: 0 = now, null = never. */
  waitMs(amount: number, limit: number, nowMs: number): number | null {
    if (amount > limit) return null;
    return Math.max(0, flowMs(this.spent(limit, nowMs) + amount - limit, limit));
  }

  /** A negative amount gives back what was reserved and not used. */
  spend(amount: number): void {
    this.#spent = Math.max(0, this.#spent + amount);
  }

  /** Until nothing counts as spent any more. */
  resetMs(limit: number, nowMs: number): number {
    return flowMs(this.spent(limit, nowMs), limit);
  }
}

function flowMs(amount: number, limit: number): number {
  return amount <= rounding ? 0 : (amount * windowMs) / limit;
}
