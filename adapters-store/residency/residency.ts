// Which adapter versions are decoded in memory: loads them when they are wanted, keeps them while they are leased or
// pinned, evicts the least recently used of the others. Being registered and being resident are two things: eviction
// makes no version unknown. Knows no names, no HTTP and no engine: `load` reads a version, `host` is where it goes;
// who waits for memory is memory-queue.ts's.

import * as errors from "./errors.ts";
import { HostMemory, type HostMemoryOptions, sizeAtLeastOne } from "./host-memory.ts";
import { type LeaseOptions, MemoryQueue, type MemoryQueueOptions } from "./memory-queue.ts";
import { type ResidencyStats, recentlyUsed, residencyOf, type VersionResidency } from "./residency-views.ts";
import { ResidentVersion } from "./resident-version.ts";
import type { Lease } from "./ticket.ts";

export type { LeaseOptions } from "./memory-queue.ts";
export type { ResidencyStats, VersionResidency } from "./residency-views.ts";
export type { ResidencyState } from "./resident-version.ts";
export type { Lease } from "./ticket.ts";

/** Defaults: 4096 waiting, patience of 2000 ms, the process's clock. */
export type ResidencyOptions = HostMemoryOptions & Partial<MemoryQueueOptions>;

export class AdapterResidency {
  readonly #capacityBytes: number;
  readonly #memory: HostMemory;
  readonly #known = new Map<string, ResidentVersion>();
  readonly #queue: MemoryQueue;
  readonly #counts = { hits: 0, misses: 0 };
  #readingAhead: Promise<void> = Promise.resolve();

  constructor(options: ResidencyOptions) {
    const { capacityBytes, maxWaiting = 4096, patienceMs = 2000, now = () => performance.now() } = options;
    this.#capacityBytes = capacityBytes;
    this.#memory = new HostMemory(options, {
      changed: () => this.#queue.serve(),
      stuck: (error) => this.#queue.dropAll(error),
      gone: ({ version, removal }) => {
        this.#known.delete(version);
        removal?.resolve(true);
      },
    });
    this.#queue = new MemoryQueue({ capacityBytes, maxWaiting, patienceMs, now }, this.#memory);
  }

  /** Makes a version known, with the size of its decoded modules. One that is leaving stays after all. */
  register(version: string, sizeBytes: number): void {
    const entry = this.#known.get(version);
    if (entry === undefined) {
      this.#known.set(version, new ResidentVersion(version, sizeAtLeastOne(sizeBytes)));
      return;
    }
    if (entry.removal === null) return;
    entry.removal.resolve(false);
    entry.removal = null;
    if (entry.state === "draining" && !entry.isUnloading) entry.transition("resident");
  }

  /** Throws AdapterError `adapter_larger_than_cache`: for a look before an adapter is published. */
  assertFits(sizeBytes: number): void {
    this.#queue.assertFits(sizeBytes);
  }

  /** Resolves when the version is resident; it stays so until the lease is released. Throws as `acquireAll`. */
  acquire(version: string, signal?: AbortSignal): Promise<Lease> {
    return this.acquireAll([version], { signal });
  }

  /**
   * Several versions at once: whoever leased them one by one could wait for somebody who waits for them. Throws
   * AdapterError `adapter_not_found`, `adapter_larger_than_cache`, `adapter_cache_pinned`, `adapter_cache_busy`; what
   * `load` and the host throw, to all who waited for it; the signal's reason.
   */
  async acquireAll(versions: readonly string[], options: LeaseOptions = {}): Promise<Lease> {
    const entries = [...new Set(versions)].map((version) => this.#find(version));
    for (const entry of entries) {
      const outcome = entry.state === "resident" ? "hits" : "misses";
      entry[outcome]++;
      this.#counts[outcome]++;
    }
    return this.#queue.request(entries, options);
  }

  /** Loads a version that is about to be wanted. False, and nothing happens, where others must leave it first. */
  async prefetch(version: string): Promise<boolean> {
    if (this.#mustWait(version)) await this.#readingAhead; // nobody wants that: it leaves as soon as it is there
    if (this.#mustWait(version)) return false;
    (await this.#queue.request([this.#find(version)])).release();
    return true;
  }

  /**
   * Loads a version before anybody wants it. Nothing happens where it is `busy`, since requests wait for theirs, or
   * `full`, since another would have to leave. Throws as `acquireAll`.
   */
  async readAhead(version: string): Promise<"read" | "busy" | "full"> {
    const entry = this.#find(version);
    if (entry.hasMemory) return "read";
    if (this.#queue.waiting > 0) return "busy";
    this.assertFits(entry.sizeBytes);
    if (entry.sizeBytes > this.#memory.freeBytes) return "full";
    const reading = this.#queue.request([entry]).then((lease) => lease.release());
    this.#readingAhead = reading.catch(() => {}); // whoever asked is told
    await reading;
    return "read";
  }

  /** Resolves when the version is resident, as it then stays. Throws `adapter_pins_exceed_cache`, and as `acquireAll`. */
  async pin(version: string): Promise<void> {
    const entry = this.#find(version);
    const capacityBytes = this.#capacityBytes;
    this.assertFits(entry.sizeBytes);
    const pinnedBytes = this.#memory.pinnedBytes + (entry.isPinned ? 0 : entry.sizeBytes);
    if (pinnedBytes > capacityBytes) throw errors.pinsExceedCache(pinnedBytes, capacityBytes);
    this.#memory.setPinned(entry, true);
    try {
      (await this.#queue.request([entry])).release();
    } catch (error) {
      this.#unpin(entry);
      throw error;
    }
  }

  unpin(version: string): void {
    this.#unpin(this.#find(version));
  }

  /**
   * The version takes no new requests and leaves memory when the last lease is released, of those who wait for one
   * too; then it is unknown. Resolves with true when it is gone, with false where it was registered again before.
   */
  async remove(version: string): Promise<boolean> {
    const entry = this.#known.get(version);
    if (entry === undefined) return true;
    if (entry.removal !== null) return entry.removal.promise;
    entry.removal = Promise.withResolvers<boolean>();
    const { promise } = entry.removal;
    this.#memory.setPinned(entry, false);
    if (entry.state === "resident") entry.transition("draining");
    this.#memory.rest(entry);
    this.#queue.serve();
    return promise;
  }

  /**
   * A new host has taken the place of one that died: what was resident is to be loaded again when it is wanted, and
   * pinned versions now. Leases stay valid as far as `release` goes.
   */
  hostLost(): void {
    const entries = [...this.#known.values()];
    for (const entry of entries) this.#memory.forget(entry);
    this.#queue.serve();
    for (const entry of entries.filter(({ isPinned }) => isPinned)) {
      this.#queue.request([entry]).then(
        (lease) => lease.release(),
        () => {}, // counted; whoever wants it next tries again
      );
    }
  }

  info(version: string): VersionResidency | undefined {
    const entry = this.#known.get(version);
    return entry && residencyOf(entry);
  }

  /** Of versions in memory, those used last: so few that each may be a series of a metric. */
  recent(limit: number): VersionResidency[] {
    return recentlyUsed(this.#known.values(), limit);
  }

  stats(): ResidencyStats {
    const entries = [...this.#known.values()];
    return {
      registered: entries.length,
      resident: entries.filter(({ hasMemory, state }) => hasMemory || state === "draining").length,
      waiting: this.#queue.waiting,
      capacityBytes: this.#capacityBytes,
      residentBytes: this.#memory.usedBytes,
      pinnedBytes: this.#memory.pinnedBytes,
      ...this.#counts,
      ...this.#memory.counts,
    };
  }

  #find(version: string): ResidentVersion {
    const entry = this.#known.get(version);
    if (entry === undefined || entry.removal !== null) throw errors.unknownVersion(version);
    return entry;
  }

  #mustWait(version: string): boolean {
    const { hasMemory, sizeBytes } = this.#find(version);
    if (hasMemory || sizeBytes > this.#capacityBytes) return false;
    return this.#queue.isBlocked || sizeBytes > this.#memory.attainableBytes;
  }

  #unpin(entry: ResidentVersion): void {
    this.#memory.setPinned(entry, false);
    this.#queue.serve();
  }
}
