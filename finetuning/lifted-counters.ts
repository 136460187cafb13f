// What each of several parties was served, over its weight, so that the one served least comes next. S-LoRA's virtual
// token counters (VTC, arXiv 2401.00588): who returns from idling is lifted, so that idling earns no credit.

/** Counters of one level. */
export class LiftedCounters<Key> {
  readonly values = new Map<Key, number>();
  readonly #waiting = new Map<Key, number>(); // how much of each party waits for service
  #lastServed = 0; // counter of the last one that stopped waiting

  valueOf(key: Key): number {
    return this.values.get(key) ?? 0;
  }

  /** VTC's lift: to the least among those who wait, or to whoever was the last to. */
  wait(key: Key): void {
    if (!this.#waiting.has(key)) {
      const least = this.#waiting.size === 0 ? this.#lastServed : this.#leastWaiting();
      this.values.set(key, Math.max(this.valueOf(key), least));
    }
    this.#waiting.set(key, (this.#waiting.get(key) ?? 0) + 1);
  }

  stopWaiting(key: Key): void {
    const left = this.#waiting.get(key)! - 1;
    if (left > 0) {
      this.#waiting.set(key, left);
      return;
    }
    this.#waiting.delete(key);
    this.#lastServed = this.valueOf(key);
  }

  charge(key: Key, cost: number): void {
    this.values.set(key, this.valueOf(key) + cost);
  }

  /**
   * Drops counters that the next lift would overwrite anyway.
   * @param isServed whether a party that does not wait is being served: its counter may yet rise above the lift
   */
  forgetIdle(isServed: (key: Key) => boolean = () => false): void {
    const floor = this.#waiting.size === 0 ? this.#lastServed : this.#leastWaiting();
    for (const [key, value] of this.values) {
      if (value <= floor && !this.#waiting.has(key) && !isServed(key)) this.values.delete(key);
    }
  }

  #leastWaiting(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const key of this.#waiting.keys()) least = Math.min(least, this.valueOf(key));
    return least;
  }
}
