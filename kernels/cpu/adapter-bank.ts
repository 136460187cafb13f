// The device slots of the CPU: per layer and site, blocks of adapter ranks in contiguous arrays, so that the used
// slots are one view. An adapter of rank r takes ceil(r / rankBlock) slots; it may be loaded in several copies,
// because one slot reads only as many sequences as the batched matmul is fast for.

import type { AdapterTargets } from "../adapter.ts";
import { type AdapterSite, adapterSites } from "../adapter-sites.ts";
import { DurationCounter } from "../durations.ts";
import { HeldCopies, type SlotStore } from "../held-copies.ts";
import type { SiteAdapter } from "../site-adapter.ts";
import { type Exchange, type Slot, SlotPlaces } from "../slot-places.ts";

/** Ranks per slot: what an adapter's rank is rounded up to. */
export const rankBlock = 8;

const loadBounds = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];

/** What copies into slots take; those that come together take the same share each. */
export function slotLoadCounter(): DurationCounter {
  return new DurationCounter(loadBounds);
}

class SiteBank implements SlotStore<SiteAdapter> {
  readonly site: AdapterSite;
  readonly #places = new SlotPlaces();
  #capacity = 0;
  #a: Float32Array[]; // per layer [capacity, rankBlock, in]
  #b: Float32Array[]; // per layer [capacity, rankBlock, out]

  constructor(site: AdapterSite) {
    this.site = site;
    this.#a = Array.from({ length: site.layers }, () => new Float32Array(0));
    this.#b = Array.from({ length: site.layers }, () => new Float32Array(0));
  }

  get slots(): Slot[] {
    return this.#places.slots;
  }

  /** Views of the first `count` places, used or not: a [count, rankBlock, in], b [count, rankBlock, out]. */
  layer(index: number, count = this.slots.length): { a: Float32Array; b: Float32Array } {
    const ranks = count * rankBlock;
    return {
      a: this.#a[index]!.subarray(0, ranks * this.site.in),
      b: this.#b[index]!.subarray(0, ranks * this.site.out),
    };
  }

  exchange(exchange: Exchange, adapterOf: (owner: string) => SiteAdapter): void {
    const blocksOf = (owner: string) => Math.ceil(adapterOf(owner).rank(this.site.name) / rankBlock);
    const changed = this.#places.exchange(exchange, blocksOf);
    this.#reserve(this.slots.length);
    for (const slot of changed) {
      const { owner, block } = this.slots[slot]!;
      this.#write(slot, block, adapterOf(owner));
    }
  }

  #write(slot: number, block: number, adapter: SiteAdapter): void {
    for (let layer = 0; layer < this.#a.length; layer++) {
      const stack = adapter.stack(layer, this.site.name);
      copyBlock(stack.a, block, this.#a[layer]!, slot, this.site.in);
      copyBlock(stack.b, block, this.#b[layer]!, slot, this.site.out);
    }
  }

  #reserve(slots: number): void {
    if (slots <= this.#capacity) return;
    const capacity = Math.max(slots, this.#capacity * 2, 8);
    const grow = (width: number) => (old: Float32Array) => {
      const grown = new Float32Array(capacity * rankBlock * width);
      grown.set(old);
      return grown;
    };
    this.#a = this.#a.map(grow(this.site.in));
    this.#b = this.#b.map(grow(this.site.out));
    this.#capacity = capacity;
  }
}

/** Copies ranks [block * rankBlock, ..) of a stack into a slot; ranks that the stack lacks become zero. */
function copyBlock(from: Float32Array, block: number, to: Float32Array, slot: number, width: number): void {
  const size = rankBlock * width;
  const ranks = from.subarray(block * size, (block + 1) * size);
  to.set(ranks, slot * size);
  to.fill(0, slot * size + ranks.length, (slot + 1) * size);
}

export class AdapterBank extends HeldCopies<SiteAdapter> {
  readonly sites: readonly SiteBank[];

  /** @param loadTimes counts the loads of several banks together */
  constructor(targets: AdapterTargets, loadTimes: DurationCounter = slotLoadCounter()) {
    const sites = adapterSites(targets).map((site) => new SiteBank(site));
    super(sites, loadTimes);
    this.sites = sites;
  }
}
