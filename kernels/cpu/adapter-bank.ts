// The device slots of the CPU: per layer and site, blocks of adapter ranks in contiguous arrays, so that the used
// slots are one view. An adapter of rank r takes ceil(r / rankBlock) slots; it may be loaded in several copies,
// because one slot reads only as many sequences as the batched matmul is fast for.

import type { AdapterTargets } from "../adapter.ts";
import { type AdapterSite, adapterSites } from "../adapter-sites.ts";
import type { SiteAdapter } from "../site-adapter.ts";

/** Ranks per slot: what an adapter's rank is rounded up to. */
export const rankBlock = 8;

/** One loaded copy of an adapter. */
export type BankCopy = { readonly version: string; readonly copy: number };

type Slot = { readonly owner: string; readonly block: number };

class SiteBank {
  readonly site: AdapterSite;
  readonly slots: Slot[] = [];
  #capacity = 0;
  #a: Float32Array[]; // per layer [capacity, rankBlock, in]
  #b: Float32Array[]; // per layer [capacity, rankBlock, out]

  constructor(site: AdapterSite, layers: number) {
    this.site = site;
    this.#a = Array.from({ length: layers }, () => new Float32Array(0));
    this.#b = Array.from({ length: layers }, () => new Float32Array(0));
  }

  /** Views of the used slots: a [U, rankBlock, in], b [U, rankBlock, out]. */
  layer(index: number): { a: Float32Array; b: Float32Array } {
    const used = this.slots.length * rankBlock;
    return {
      a: this.#a[index]!.subarray(0, used * this.site.in),
      b: this.#b[index]!.subarray(0, used * this.site.out),
    };
  }

  load(owner: string, adapter: SiteAdapter): void {
    const blocks = Math.ceil(adapter.rank(this.site.name) / rankBlock);
    for (let block = 0; block < blocks; block++) {
      const slot = this.slots.push({ owner, block }) - 1;
      this.#reserve(this.slots.length);
      for (let layer = 0; layer < this.#a.length; layer++) {
        const stack = adapter.stack(layer, this.site.name);
        copyBlock(stack.a, block, this.#a[layer]!, slot, this.site.in);
        copyBlock(stack.b, block, this.#b[layer]!, slot, this.site.out);
      }
    }
  }

  /** Fills each freed slot with the last used one, which keeps the used ones contiguous. */
  unload(owner: string): void {
    for (let slot = this.slots.length - 1; slot >= 0; slot--) {
      if (this.slots[slot]!.owner !== owner) continue;
      const last = this.slots.pop()!;
      if (slot === this.slots.length) continue;
      this.slots[slot] = last;
      for (let layer = 0; layer < this.#a.length; layer++) {
        moveBlock(this.#a[layer]!, this.slots.length, slot, this.site.in);
        moveBlock(this.#b[layer]!, this.slots.length, slot, this.site.out);
      }
    }
  }

  #reserve(slots: number): void {
    if (slots <= this.#capacity) return;
    this.#capacity = Math.max(slots, this.#capacity * 2, 8);
    const grow = (width: number) => (old: Float32Array) => {
      const grown = new Float32Array(this.#capacity * rankBlock * width);
      grown.set(old);
      return grown;
    };
    this.#a = this.#a.map(grow(this.site.in));
    this.#b = this.#b.map(grow(this.site.out));
  }
}

/** Copies ranks [block * rankBlock, ..) of a stack into a slot; ranks that the stack lacks become zero. */
function copyBlock(from: Float32Array, block: number, to: Float32Array, slot: number, width: number): void {
  const size = rankBlock * width;
  const ranks = from.subarray(block * size, (block + 1) * size);
  to.set(ranks, slot * size);
  to.fill(0, slot * size + ranks.length, (slot + 1) * size);
}

function moveBlock(array: Float32Array, from: number, to: number, width: number): void {
  const size = rankBlock * width;
  array.copyWithin(to * size, from * size, (from + 1) * size);
}

export class AdapterBank {
  readonly sites: readonly SiteBank[];
  readonly #loaded = new Map<string, BankCopy>();
  /** Grows with every load and unload: views taken before are stale. */
  generation = 0;
  loads = 0;
  unloads = 0;

  constructor(targets: AdapterTargets) {
    this.sites = adapterSites(targets).map((site) => new SiteBank(site, targets.layers));
  }

  /** Loads and unloads until exactly the wanted copies are in slots. */
  hold(wanted: readonly BankCopy[], adapters: ReadonlyMap<string, SiteAdapter>): void {
    const keys = new Set(wanted.map(keyOf));
    for (const key of [...this.#loaded.keys()]) {
      if (keys.has(key)) continue;
      for (const site of this.sites) site.unload(key);
      this.#loaded.delete(key);
      this.generation++;
      this.unloads++;
    }
    for (const copy of wanted) {
      const key = keyOf(copy);
      if (this.#loaded.has(key)) continue;
      for (const site of this.sites) site.load(key, adapters.get(copy.version)!);
      this.#loaded.set(key, copy);
      this.generation++;
      this.loads++;
    }
  }

  get versions(): string[] {
    return [...new Set([...this.#loaded.values()].map((copy) => copy.version))];
  }
}

export function keyOf(copy: BankCopy): string {
  return `${copy.version}#${copy.copy}`;
}
