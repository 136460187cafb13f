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

  constructor(site: AdapterSite) {
    this.site = site;
    this.#a = Array.from({ length: site.layers }, () => new Float32Array(0));
    this.#b = Array.from({ length: site.layers }, () => new Float32Array(0));
  }

  /** Views of the first `count` places, used or not: a [count, rankBlock, in], b [count, rankBlock, out]. */
  layer(index: number, count = this.slots.length): { a: Float32Array; b: Float32Array } {
    const ranks = count * rankBlock;
    return {
      a: this.#a[index]!.subarray(0, ranks * this.site.in),
      b: this.#b[index]!.subarray(0, ranks * this.site.out),
    };
  }

  load(owner: string, adapter: SiteAdapter): void {
    const blocks = Math.ceil(adapter.rank(this.site.name) / rankBlock);
    for (let block = 0; block < blocks; block++) {
      this.#reserve(this.slots.length + 1);
      const slot = this.slots.push({ owner, block }) - 1;
      this.#write(slot, block, adapter);
    }
  }

  /**
   * Fills each freed slot with the last used one, which keeps the used ones contiguous. What moved is written
   * again in the order of its blocks: their sum, and so a row's last bit, must not depend on who left before.
   */
  unload(owner: string, adapterOf: (owner: string) => SiteAdapter): void {
    const moved = new Set<string>();
    for (let slot = this.slots.length - 1; slot >= 0; slot--) {
      if (this.slots[slot]!.owner !== owner) continue;
      const last = this.slots.pop()!;
      if (slot === this.slots.length) continue;
      this.slots[slot] = last;
      moved.add(last.owner);
    }
    for (const other of moved) {
      let block = 0;
      for (const [slot, { owner }] of this.slots.entries()) {
        if (owner !== other) continue;
        this.slots[slot] = { owner, block };
        this.#write(slot, block++, adapterOf(other));
      }
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

export class AdapterBank {
  readonly sites: readonly SiteBank[];
  readonly #loaded = new Map<string, BankCopy>();
  /** Grows with every load and unload: views taken before are stale. */
  generation = 0;
  loads = 0;
  unloads = 0;

  constructor(targets: AdapterTargets) {
    this.sites = adapterSites(targets).map((site) => new SiteBank(site));
  }

  /** Loads and unloads until exactly the wanted copies are in slots. */
  hold(wanted: readonly BankCopy[], adapters: ReadonlyMap<string, SiteAdapter>): void {
    const keys = new Set(wanted.map(keyOf));
    for (const key of [...this.#loaded.keys()]) if (!keys.has(key)) this.#unload(key, adapters);
    for (const copy of wanted) {
      const key = keyOf(copy);
      if (this.#loaded.has(key)) continue;
      for (const site of this.sites) site.load(key, adapters.get(copy.version)!);
      this.#loaded.set(key, copy);
      this.generation++;
      this.loads++;
    }
  }

  /** Unloads every copy of a version, before it is forgotten. */
  release(version: string, adapters: ReadonlyMap<string, SiteAdapter>): void {
    for (const [key, copy] of [...this.#loaded]) if (copy.version === version) this.#unload(key, adapters);
  }

  get versions(): string[] {
    return [...new Set([...this.#loaded.values()].map((copy) => copy.version))];
  }

  #unload(key: string, adapters: ReadonlyMap<string, SiteAdapter>): void {
    this.#loaded.delete(key);
    for (const site of this.sites) {
      site.unload(key, (owner) => adapters.get(this.#loaded.get(owner)!.version)!);
    }
    this.generation++;
    this.unloads++;
  }
}

export function keyOf(copy: BankCopy): string {
  return `${copy.version}#${copy.copy}`;
}
