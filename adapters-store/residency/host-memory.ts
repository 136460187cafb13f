// The bytes that adapter versions take in memory: brings versions in, keeps those that are held or pinned, lets the
// others go. Never more than its capacity, loading and leaving versions included, provided that its caller loads only
// what `freeBytes` has room for. Does not know who wants what, nor in which order.

import { adapterBytes, type DecodedAdapter } from "../../kernels/adapter.ts";
import { concurrencyLimit, type Limited } from "./concurrency-limit.ts";
import { sizeChanged } from "./errors.ts";
import { IdleVersions } from "./idle-versions.ts";
import type { ResidentVersion } from "./resident-version.ts";

export type HostMemoryOptions = {
  readonly capacityBytes: number;
  readonly sizeOf?: (adapter: DecodedAdapter) => number; // what it takes in the host; default its arrays' bytes
  readonly load: (version: string) => Promise<{ readonly adapter: DecodedAdapter }>;
  readonly host: {
    /** May take the arrays away (transfer them). */
    readonly add: (version: string, adapter: DecodedAdapter) => Promise<void>;
    readonly remove: (version: string) => Promise<void>;
  };
  readonly concurrentLoads?: number; // default 2
  readonly onLoaded?: (load: { readonly seconds: number; readonly sizeBytes: number }) => void;
};

export type MemoryEvents = {
  readonly changed: () => void; // bytes or states are other than before
  readonly stuck: (error: unknown) => void; // the host could not let a version go
  readonly gone: (entry: ResidentVersion) => void; // it was to be removed, and has nothing here any more
};

export class HostMemory {
  readonly counts = { loads: 0, loadFailures: 0, evictions: 0 };
  readonly #options: HostMemoryOptions;
  readonly #events: MemoryEvents;
  readonly #limited: Limited;
  readonly #idle: IdleVersions;
  #usedBytes = 0;
  #unloadingBytes = 0; // of the used ones
  #pinnedBytes = 0;

  constructor(options: HostMemoryOptions, events: MemoryEvents) {
    this.#options = options;
    this.#events = events;
    this.#limited = concurrencyLimit(options.concurrentLoads ?? 2);
    this.#idle = new IdleVersions(options.capacityBytes);
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get freeBytes(): number {
    return this.#options.capacityBytes - this.#usedBytes;
  }

  /** Free at once, or as soon as the idle versions have left. */
  get attainableBytes(): number {
    return this.freeBytes + this.#unloadingBytes + this.#idle.bytes;
  }

  /** Of all pinned versions, resident yet or not. */
  get pinnedBytes(): number {
    return this.#pinnedBytes;
  }

  hold(entry: ResidentVersion): void {
    entry.leases++;
    this.#idle.delete(entry);
  }

  letGo(entry: ResidentVersion): void {
    entry.leases--;
    entry.lastUsedMs = unixMs();
    this.rest(entry);
  }

  setPinned(entry: ResidentVersion, isPinned: boolean): void {
    if (entry.isPinned === isPinned) return;
    entry.isPinned = isPinned;
    this.#pinnedBytes += isPinned ? entry.sizeBytes : -entry.sizeBytes;
    if (isPinned) this.#idle.delete(entry);
    else this.rest(entry);
  }

  /** Decides what becomes of a version that nobody holds: it is idle, or it leaves for good. */
  rest(entry: ResidentVersion): void {
    if (entry.leases > 0 || entry.isUnloading || entry.state === "loading") return;
    if (entry.removal === null) {
      if (entry.state === "resident" && !entry.isPinned) this.#idle.add(entry);
    } else if (entry.state === "resident" || entry.state === "draining") {
      void this.#unload(entry);
    } else if (entry.waiting === 0) {
      this.#events.gone(entry);
    }
  }

  /** Makes idle versions leave until `bytes` will be free, or none where that cannot be. */
  evictFor(bytes: number): void {
    if (bytes > this.attainableBytes) return;
    let shortBytes = bytes - this.freeBytes - this.#unloadingBytes;
    while (shortBytes > 0) {
      const oldest = this.#idle.takeOldest()!;
      shortBytes -= oldest.sizeBytes;
      this.counts.evictions++;
      void this.#unload(oldest);
    }
  }

  /** `entry.loaded` says how it ends. */
  startLoad(entry: ResidentVersion): void {
    entry.transition("loading");
    this.#usedBytes += entry.sizeBytes;
    entry.loaded = this.#limited(() => this.#load(entry));
    entry.loaded.catch(() => {}); // whoever waits for it has the error
  }

  /** The host lost what it held, all at once. Loads and removals under way end by themselves. */
  forget(entry: ResidentVersion): void {
    if (entry.isUnloading || (entry.state !== "resident" && entry.state !== "draining")) return;
    if (entry.state === "resident") entry.transition("draining");
    entry.transition("evicted");
    this.#idle.delete(entry);
    this.#usedBytes -= entry.sizeBytes;
    this.rest(entry);
  }

  async #load(entry: ResidentVersion): Promise<void> {
    const { load, host, onLoaded } = this.#options;
    const startMs = performance.now();
    try {
      const { adapter } = await load(entry.version);
      this.#measured(entry, adapter);
      await host.add(entry.version, adapter);
    } catch (error) {
      this.#usedBytes -= entry.sizeBytes;
      this.counts.loadFailures++;
      entry.transition("registered"); // the next one who wants it tries again
      this.#settled(entry);
      throw error;
    }
    entry.transition("resident");
    entry.loads++;
    this.counts.loads++;
    onLoaded?.({ seconds: (performance.now() - startMs) / 1000, sizeBytes: entry.sizeBytes });
    this.#settled(entry);
  }

  /** Another release may decode to another size than the one that wrote it down. */
  #measured(entry: ResidentVersion, adapter: DecodedAdapter): void {
    const growthBytes = sizeAtLeastOne((this.#options.sizeOf ?? adapterBytes)(adapter)) - entry.sizeBytes;
    entry.sizeBytes += growthBytes;
    this.#usedBytes += growthBytes;
    if (entry.isPinned) this.#pinnedBytes += growthBytes;
    if (Math.max(this.#usedBytes, this.#pinnedBytes) > this.#options.capacityBytes) {
      throw sizeChanged(entry.version);
    }
  }

  async #unload(entry: ResidentVersion): Promise<void> {
    if (entry.state === "resident") entry.transition("draining");
    this.#idle.delete(entry);
    entry.isUnloading = true;
    this.#unloadingBytes += entry.sizeBytes;
    const failure = await this.#options.host.remove(entry.version).then(
      () => null,
      (error: unknown) => ({ error }),
    );
    entry.isUnloading = false;
    this.#unloadingBytes -= entry.sizeBytes;
    if (failure === null) {
      this.#usedBytes -= entry.sizeBytes;
      entry.transition("evicted");
    } else {
      entry.transition("resident"); // it still has its memory
      entry.removal?.reject(failure.error);
      entry.removal = null;
      this.#events.stuck(failure.error);
    }
    this.#settled(entry);
  }

  #settled(entry: ResidentVersion): void {
    this.rest(entry);
    this.#events.changed();
  }
}

/** An adapter may have no modules, but lru-cache takes no size of zero. */
export function sizeAtLeastOne(sizeBytes: number): number {
  return Math.max(1, sizeBytes);
}

function unixMs(): number {
  return Math.round(performance.timeOrigin + performance.now());
}
