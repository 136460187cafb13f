// One request for a set of versions, from its arrival until its lease is released. Knows no bytes.

import type { HostMemory } from "./host-memory.ts";
import type { OwnerLine } from "./owner-line.ts";
import type { ResidentVersion } from "./resident-version.ts";

/** What keeps versions in memory. Whoever has it releases it; a second time does nothing. */
export type Lease = Disposable & { release(): void };

export class Ticket {
  readonly line: OwnerLine;
  readonly entries: readonly ResidentVersion[]; // no two alike
  readonly arrivedMs: number;
  /** Since when other owners alone have kept it from its lease. */
  turnMs: number | null = null;
  readonly #result = Promise.withResolvers<Lease>();
  #isHolding = false;
  #isAdmitted = false;
  #isSettled = false;

  constructor(line: OwnerLine, entries: readonly ResidentVersion[], arrivedMs: number) {
    this.line = line;
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

  /** It waits no longer for its turn, and what it holds is its owner's. */
  admit(memory: HostMemory): void {
    this.hold(memory);
    this.#isAdmitted = true;
    this.line.admit(this);
  }

  letGo(memory: HostMemory): void {
    if (!this.#isHolding) return;
    this.#isHolding = false;
    for (const entry of this.entries) memory.letGo(entry);
    if (this.#isAdmitted) this.line.release(this);
    this.#isAdmitted = false;
  }
}
