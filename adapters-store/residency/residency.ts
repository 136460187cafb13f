// Which adapter versions are decoded in memory: loads them when they are wanted, keeps them while they are leased or
// pinned, evicts the least recently used of the others. Being registered and being resident are two things: eviction
// makes no version unknown. Knows no names, no HTTP and no engine: `load` reads a version, `host` is where it goes.
//
// Who needs memory is served in order of arrival. Who needs none passes them, but not for ever: behind a request that
// has waited for `patienceMs`, only pinned versions are leased, so that what holds the memory comes to an end.

import * as errors from "./errors.ts";
import { HostMemory, type HostMemoryOptions, sizeAtLeastOne } from "./host-memory.ts";
import { type ResidencyState, ResidentVersion } from "./resident-version.ts";
import { type Lease, Ticket } from "./ticket.ts";

export type { ResidencyState } from "./resident-version.ts";
export type { Lease } from "./ticket.ts";

export type ResidencyOptions = HostMemoryOptions & {
  readonly maxWaiting?: number; // requests without their lease, default 4096
  readonly patienceMs?: number; // default 2000
  readonly now?: () => number; // milliseconds, any origin
};

export type VersionResidency = {
  readonly version: string;
  readonly state: ResidencyState;
  readonly sizeBytes: number;
  readonly leases: number;
  readonly isPinned: boolean;
  readonly hits: number;
  readonly misses: number;
  readonly loads: number;
  readonly lastUsedMs: number | null; // Unix time
};

/** Counters count from the start. */
export type ResidencyStats = {
  readonly registered: number;
  readonly resident: number; // versions that have memory, loading and leaving ones included
  readonly waiting: number;
  readonly capacityBytes: number;
  readonly residentBytes: number; // as `resident` counts; never more than capacityBytes
  readonly pinnedBytes: number;
  readonly hits: number;
  readonly misses: number;
  readonly loads: number;
  readonly loadFailures: number;
  readonly evictions: number;
};

export class AdapterResidency {
  readonly #options: Required<Pick<ResidencyOptions, "capacityBytes" | "maxWaiting" | "patienceMs" | "now">>;
  readonly #memory: HostMemory;
  readonly #known = new Map<string, ResidentVersion>();
  readonly #queue = new Set<Ticket>(); // waiting for memory, in order of arrival
  readonly #counts = { hits: 0, misses: 0 };
  #waiting = 0; // in the queue, or loading

  constructor(options: ResidencyOptions) {
    const { capacityBytes, maxWaiting = 4096, patienceMs = 2000, now = () => performance.now() } = options;
    this.#options = { capacityBytes, maxWaiting, patienceMs, now };
    this.#memory = new HostMemory(options, {
      changed: () => this.#serveQueue(),
      stuck: (error) => this.#dropWhere(() => true, error),
      gone: ({ version, removal }) => {
        this.#known.delete(version);
        removal?.resolve(true);
      },
    });
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
    const { capacityBytes } = this.#options;
    if (sizeBytes > capacityBytes) throw errors.largerThanCache(sizeBytes, capacityBytes);
  }

  /** Resolves when the version is resident; it stays so until the lease is released. Throws as `acquireAll`. */
  acquire(version: string, signal?: AbortSignal): Promise<Lease> {
    return this.acquireAll([version], signal);
  }

  /**
   * Several versions at once: whoever leased them one by one could wait for somebody who waits for them. Throws
   * AdapterError `adapter_not_found`, `adapter_larger_than_cache`, `adapter_cache_pinned`, `adapter_cache_busy`; what
   * `load` and the host throw, to all who waited for it; the signal's reason.
   */
  async acquireAll(versions: readonly string[], signal?: AbortSignal): Promise<Lease> {
    const entries = [...new Set(versions)].map((version) => this.#find(version));
    for (const entry of entries) {
      const outcome = entry.state === "resident" ? "hits" : "misses";
      entry[outcome]++;
      this.#counts[outcome]++;
    }
    return this.#request(entries, signal);
  }

  /** Loads a version that is about to be wanted. False, and nothing happens, where others must leave it first. */
  async prefetch(version: string): Promise<boolean> {
    const entry = this.#find(version);
    const mustWait = this.#queue.size > 0 || entry.sizeBytes > this.#memory.attainableBytes;
    if (!entry.hasMemory && mustWait && entry.sizeBytes <= this.#options.capacityBytes) return false;
    (await this.#request([entry])).release();
    return true;
  }

  /** Resolves when the version is resident, as it then stays. Throws `adapter_pins_exceed_cache`, and as `acquireAll`. */
  async pin(version: string): Promise<void> {
    const entry = this.#find(version);
    const { capacityBytes } = this.#options;
    this.assertFits(entry.sizeBytes);
    const pinnedBytes = this.#memory.pinnedBytes + (entry.isPinned ? 0 : entry.sizeBytes);
    if (pinnedBytes > capacityBytes) throw errors.pinsExceedCache(pinnedBytes, capacityBytes);
    this.#memory.setPinned(entry, true);
    try {
      (await this.#request([entry])).release();
    } catch (error) {
      this.#unpin(entry);
      throw error;
    }
  }

  unpin(version: string): void {
    this.#unpin(this.#find(version));
  }

  /**
   * The version takes no new leases and leaves memory when the last one is released; then it is unknown. Resolves
   * with true when it is gone, with false where it was registered again before.
   */
  async remove(version: string): Promise<boolean> {
    const entry = this.#known.get(version);
    if (entry === undefined) return true;
    if (entry.removal !== null) return entry.removal.promise;
    entry.removal = Promise.withResolvers<boolean>();
    const { promise } = entry.removal;
    this.#memory.setPinned(entry, false);
    this.#dropWhere(({ entries }) => entries.includes(entry), errors.unknownVersion(version));
    if (entry.state === "resident") entry.transition("draining");
    this.#memory.rest(entry);
    this.#serveQueue();
    return promise;
  }

  /**
   * A new host has taken the place of one that died: what was resident is to be loaded again when it is wanted, and
   * pinned versions now. Leases stay valid as far as `release` goes.
   */
  hostLost(): void {
    const entries = [...this.#known.values()];
    for (const entry of entries) this.#memory.forget(entry);
    this.#serveQueue();
    for (const entry of entries.filter(({ isPinned }) => isPinned)) {
      this.#request([entry]).then(
        (lease) => lease.release(),
        () => {}, // counted; whoever wants it next tries again
      );
    }
  }

  info(version: string): VersionResidency | undefined {
    const entry = this.#known.get(version);
    return entry && infoOf(entry);
  }

  /** Of versions in memory, those used last: so few that each may be a series of a metric. */
  recent(limit: number): VersionResidency[] {
    const resident = [...this.#known.values()].filter(({ state }) => state === "resident");
    const newestFirst = resident.sort((a, b) => (b.lastUsedMs ?? 0) - (a.lastUsedMs ?? 0));
    return newestFirst.slice(0, limit).map(infoOf);
  }

  stats(): ResidencyStats {
    const entries = [...this.#known.values()];
    return {
      registered: entries.length,
      resident: entries.filter(({ hasMemory, state }) => hasMemory || state === "draining").length,
      waiting: this.#waiting,
      capacityBytes: this.#options.capacityBytes,
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

  #unpin(entry: ResidentVersion): void {
    this.#memory.setPinned(entry, false);
    this.#serveQueue();
  }

  async #request(entries: readonly ResidentVersion[], signal?: AbortSignal): Promise<Lease> {
    signal?.throwIfAborted();
    const { maxWaiting, now } = this.#options;
    this.assertFits(totalBytes(entries));
    const isReady = entries.every(({ state }) => state === "resident");
    if (!isReady && this.#waiting >= maxWaiting) throw errors.tooManyWaiting(this.#waiting);
    const ticket = new Ticket(entries, now());
    const abort = () => this.#fail(ticket, signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    this.#waiting++;
    this.#enqueue(ticket);
    try {
      return await ticket.lease;
    } finally {
      this.#waiting--;
      signal?.removeEventListener("abort", abort);
    }
  }

  #enqueue(ticket: Ticket): void {
    this.#queue.add(ticket);
    this.#serveQueue();
  }

  #serveQueue(): void {
    let first: Ticket | null = null; // the first that has to wait for memory
    for (const ticket of this.#queue) {
      const missing = ticket.entries.filter(({ hasMemory }) => !hasMemory);
      if (missing.length === 0) {
        if (first === null || this.#mayPass(ticket, first)) this.#admit(ticket, missing);
      } else if (first === null) {
        if (this.#makeRoom(ticket, missing)) this.#admit(ticket, missing);
        else if (!ticket.isSettled) first = ticket;
      }
    }
  }

  #mayPass(ticket: Ticket, first: Ticket): boolean {
    const { patienceMs, now } = this.#options;
    return now() - first.arrivedMs <= patienceMs || ticket.entries.every(({ isPinned }) => isPinned);
  }

  /** Whether what the ticket misses can be loaded now; where it can be later, idle versions leave for it. */
  #makeRoom(ticket: Ticket, missing: readonly ResidentVersion[]): boolean {
    const { capacityBytes } = this.#options;
    const { pinnedBytes } = this.#memory;
    const besidesBytes = pinnedBytes - totalBytes(ticket.entries.filter(({ isPinned }) => isPinned));
    if (totalBytes(ticket.entries) + besidesBytes > capacityBytes) {
      this.#drop(ticket, errors.noRoomBesidePins(pinnedBytes, capacityBytes));
      return false;
    }
    ticket.hold(this.#memory); // or what it has might be evicted for what it misses
    const missingBytes = totalBytes(missing);
    if (missingBytes <= this.#memory.freeBytes) return missing.every(({ state }) => state !== "draining");
    this.#memory.evictFor(missingBytes);
    return false;
  }

  #admit(ticket: Ticket, missing: readonly ResidentVersion[]): void {
    this.#queue.delete(ticket);
    ticket.hold(this.#memory);
    for (const entry of missing) this.#memory.startLoad(entry);
    const grant = () =>
      ticket.resolve(() => {
        ticket.letGo(this.#memory);
        this.#serveQueue();
      });
    const isReady = () => ticket.entries.every(({ isUsable }) => isUsable);
    if (isReady()) return grant();
    const again = () => {
      if (ticket.isSettled) return; // else the host was lost meanwhile
      ticket.letGo(this.#memory); // or the first in the queue could wait for what it holds, and it for the first
      this.#enqueue(ticket);
    };
    Promise.all(ticket.entries.map(({ loaded }) => loaded)).then(
      () => (isReady() ? grant() : again()),
      (error) => this.#fail(ticket, error),
    );
  }

  #fail(ticket: Ticket, error: unknown): void {
    this.#drop(ticket, error);
    this.#serveQueue();
  }

  #drop(ticket: Ticket, error: unknown): void {
    if (ticket.isSettled) return;
    this.#queue.delete(ticket);
    ticket.reject(error);
    ticket.letGo(this.#memory);
  }

  #dropWhere(matches: (ticket: Ticket) => boolean, error: unknown): void {
    for (const ticket of this.#queue) if (matches(ticket)) this.#drop(ticket, error);
  }
}

function infoOf(entry: ResidentVersion): VersionResidency {
  const { version, state, sizeBytes, leases, isPinned, hits, misses, loads, lastUsedMs } = entry;
  return { version, state, sizeBytes, leases, isPinned, hits, misses, loads, lastUsedMs };
}

function totalBytes(entries: readonly ResidentVersion[]): number {
  return entries.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
