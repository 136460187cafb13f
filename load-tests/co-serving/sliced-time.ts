// Programs that take turns on this thread, each on a clock that goes on only while it is its turn: whatever slows the
// machine for longer than a slice slows all of them alike. A program is all that follows from what it is begun with; in
// it `performance.now` is its clock, and what it leaves to `setImmediate` is done in its next turn.

import { AsyncLocalStorage } from "node:async_hooks";

const realSetImmediate = globalThis.setImmediate;

export class Lane {
  readonly callbacks: (() => void)[] = [];
  readonly onTime: () => void;
  readonly wakesMs: () => number | null;
  ms = 0; // of its clock, when its slice began
  ranMs = 0; // of that, in slices

  /**
   * @param onTime called whenever its clock went on
   * @param wakesMs when there is nothing to do before, so that its clock may go on at once; null where that is not known
   */
  constructor(onTime: () => void, wakesMs: () => number | null) {
    this.onTime = onTime;
    this.wakesMs = wakesMs;
  }
}

export class SlicedTime {
  readonly #sliceMs: number;
  readonly #realNow: () => number;
  readonly #lane = new AsyncLocalStorage<Lane>();
  #slice: { readonly lane: Lane; readonly startMs: number } | null = null;

  /**
   * From here on, of the whole process.
   * @param realNow in milliseconds, what slices are measured by
   * @param sliceMs long beside what caches lose in a change, short beside what the machine's neighbours do
   */
  constructor(realNow: () => number, sliceMs = 500) {
    this.#sliceMs = sliceMs;
    this.#realNow = realNow;
    performance.now = () => {
      const lane = this.#lane.getStore();
      return lane === undefined ? realNow() : this.nowMs(lane);
    };
    globalThis.setImmediate = ((callback: () => void) => {
      const lane = this.#lane.getStore();
      return lane === undefined ? realSetImmediate(callback) : lane.callbacks.push(callback);
    }) as typeof setImmediate;
  }

  nowMs(lane: Lane): number {
    return this.#slice?.lane === lane ? lane.ms + this.#realNow() - this.#slice.startMs : lane.ms;
  }

  begin<Result>(lane: Lane, program: () => Result): Result {
    return this.#lane.run(lane, program);
  }

  /** All clocks go on to the latest of them, before anything else takes turns. @returns what they show */
  align(lanes: readonly Lane[]): number {
    const latestMs = Math.max(...lanes.map(({ ms }) => ms));
    for (const lane of lanes) lane.ms = latestMs;
    return latestMs;
  }

  async takeTurns(lanes: readonly Lane[], isDone: () => boolean): Promise<void> {
    while (!isDone()) {
      await this.#runSlice(lanes.reduce((first, other) => (other.ms < first.ms ? other : first)));
    }
  }

  async #runSlice(lane: Lane): Promise<void> {
    const startMs = this.#realNow();
    this.#slice = { lane, startMs };
    this.begin(lane, lane.onTime);
    while (this.#realNow() - startMs < this.#sliceMs) {
      const callback = lane.callbacks.shift();
      if (callback !== undefined) this.begin(lane, callback);
      await new Promise<void>((resolve) => realSetImmediate(resolve)); // all that follows from it has been done
      if (lane.callbacks.length === 0) lane.ms += Math.max(0, (lane.wakesMs() ?? 0) - this.nowMs(lane));
      this.begin(lane, lane.onTime);
    }
    const ranMs = this.#realNow() - startMs;
    this.#slice = null;
    lane.ms += ranMs;
    lane.ranMs += ranMs;
  }
}
