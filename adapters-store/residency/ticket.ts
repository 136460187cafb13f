// One request for a set of versions, from its arrival until its lease is released. Knows no bytes.

import type { HostMemory } from "./host-memory.ts";
import type { ResidentVersion } from "./resident-version.ts";

/** What keeps versions in memory. Whoever has it releases it; a second time does nothing. */
export type Lease = Disposable & { release(): void };

export class Ticket {
  readonly entries: readonly ResidentVersion[]; // no two alike
  readonly arrivedMs: number;
  readonly #result = Promise.withResolvers<Lease>();
  #isHolding = false;
  #isSettled = false;

  constructor(entries: readonly ResidentVersion[], arrivedMs: number) {
    this.entries = entries;
    this.arrivedMs = arrivedMs;
  }

  get lease(): Promise<Lease> {
    return this.#result.promise;
  }

  get isSettled(): boolean {
    return this.#isSettled;
  }

  /** Too late where the request was aborted meanwhile. */
  resolve(release: () => void): void {
    this.#isSettled = true;
    this.#result.resolve({ release, [Symbol.dispose]: release });
  }

  reject(error: unknown): void {
    this.#isSettled = true;
    this.#result.reject(error);
  }

  hold(memory: HostMemory): void {
    if (this.#isHolding) return;
    this.#isHolding = true;
    for (const entry of this.entries) memory.hold(entry);
  }

  letGo(memory: HostMemory): void {
    if (!this.#isHolding) return;
    this.#isHolding = false;
    for (const entry of this.entries) memory.letGo(entry);
  }
}
