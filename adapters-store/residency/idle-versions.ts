// The resident versions that nothing holds, least recently used first: those that may be evicted. Leased and pinned
// versions are not in here, which is what keeps them.

import { LRUCache } from "lru-cache";
import type { ResidentVersion } from "./resident-version.ts";

export class IdleVersions {
  readonly #cache: LRUCache<string, ResidentVersion>;

  constructor(capacityBytes: number) {
    // The cache never evicts by itself: whoever adds has made room for all that is resident, idle or not.
    this.#cache = new LRUCache({ maxSize: capacityBytes, sizeCalculation: ({ sizeBytes }) => sizeBytes });
  }

  get bytes(): number {
    return this.#cache.calculatedSize;
  }

  /** As the most recently used. */
  add(entry: ResidentVersion): void {
    this.#cache.set(entry.version, entry);
  }

  delete(entry: ResidentVersion): void {
    this.#cache.delete(entry.version);
  }

  takeOldest(): ResidentVersion | undefined {
    return this.#cache.pop();
  }
}
