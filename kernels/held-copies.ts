// Which copies of adapters are in slots, over all stores of slots that change together, of any device.

import type { DurationCounter } from "./durations.ts";
import type { Exchange, Slot } from "./slot-places.ts";

/** One loaded copy of an adapter. */
export type BankCopy = { readonly version: string; readonly copy: number };

/** The slots of one kind. */
export interface SlotStore<Adapter> {
  readonly slots: Slot[]; // the used ones
  exchange(exchange: Exchange, adapterOf: (owner: string) => Adapter): void;
}

export class HeldCopies<Adapter> {
  readonly #stores: readonly SlotStore<Adapter>[];
  readonly #loaded = new Map<string, BankCopy>();
  readonly #loadTimes: DurationCounter;
  /** Grows with every load and unload: views taken before are stale. */
  generation = 0;
  loads = 0;
  unloads = 0;

  /** @param loadTimes may count the loads of several banks together */
  constructor(stores: readonly SlotStore<Adapter>[], loadTimes: DurationCounter) {
    this.#stores = stores;
    this.#loadTimes = loadTimes;
  }

  /** Loads and unloads until exactly the wanted copies are in slots. */
  hold(wanted: readonly BankCopy[], adapters: ReadonlyMap<string, Adapter>): void {
    const copies = new Map(wanted.map((copy) => [keyOf(copy), copy]));
    const leaving = [...this.#loaded.keys()].filter((key) => !copies.has(key));
    this.#exchange(leaving, copies, adapters);
  }

  /** Unloads every copy of a version, before it is forgotten. */
  release(version: string, adapters: ReadonlyMap<string, Adapter>): void {
    const leaving = [...this.#loaded].flatMap(([key, copy]) => (copy.version === version ? [key] : []));
    this.#exchange(leaving, new Map(), adapters);
  }

  get versions(): string[] {
    return [...new Set([...this.#loaded.values()].map((copy) => copy.version))];
  }

  #exchange(
    leaving: readonly string[],
    wanted: ReadonlyMap<string, BankCopy>,
    adapters: ReadonlyMap<string, Adapter>,
  ): void {
    const coming = [...wanted.keys()].filter((key) => !this.#loaded.has(key));
    if (leaving.length + coming.length === 0) return;
    for (const key of leaving) this.#loaded.delete(key);
    for (const key of coming) this.#loaded.set(key, wanted.get(key)!);
    const adapterOf = (owner: string) => adapters.get(this.#loaded.get(owner)!.version)!;
    const startMs = performance.now();
    try {
      for (const store of this.#stores) store.exchange({ leaving: new Set(leaving), coming }, adapterOf);
    } catch (error) {
      this.#empty(); // some stores have changed and others have not: rows would silently run on a part
      throw error;
    }
    const seconds = (performance.now() - startMs) / 1000;
    if (coming.length > 0) this.#loadTimes.add(seconds / coming.length, coming.length);
    this.unloads += leaving.length;
    this.loads += coming.length;
    this.generation += leaving.length + coming.length;
  }

  #empty(): void {
    this.#loaded.clear();
    for (const { slots } of this.#stores) slots.length = 0;
    this.generation++;
  }
}

export function keyOf(copy: BankCopy): string {
  return `${copy.version}#${copy.copy}`;
}
