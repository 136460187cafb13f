// Who waits for memory, and who gets it: an owner's requests in order of arrival, and between owners as lease-turns.ts
// says. Who needs no memory passes its owner's others, but not for ever: behind a request that has waited for
// `patienceMs`, only pinned versions are leased, so that what holds the memory comes to an end. Knows no names of
// versions.

import * as errors from "./errors.ts";
import type { HostMemory } from "./host-memory.ts";
import { LeaseRound } from "./lease-round.ts";
import { OwnerLine } from "./owner-line.ts";
import type { ResidentVersion } from "./resident-version.ts";
import { type Lease, Ticket } from "./ticket.ts";

export type MemoryQueueOptions = {
  readonly capacityBytes: number;
  readonly maxWaiting: number; // requests without their lease
  readonly patienceMs: number;
  readonly now: () => number; // milliseconds, any origin
};

export type LeaseOptions = {
  readonly owner?: string | null; // whose share of the memory it takes; default nobody's, which is not bounded
  readonly signal?: AbortSignal | undefined;
};

export class MemoryQueue {
  readonly #options: MemoryQueueOptions;
  readonly #memory: HostMemory;
  readonly #lines = new Map<string | null, OwnerLine>(); // of owners who wait for memory, or hold some
  #waiting = 0; // in the lines, or loading

  constructor(options: MemoryQueueOptions, memory: HostMemory) {
    this.#options = options;
    this.#memory = memory;
  }

  /** Requests without their lease. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Whether somebody waits for memory. */
  get isBlocked(): boolean {
    return [...this.#lines.values()].some(({ tickets }) => tickets.size > 0);
  }

  /** Throws AdapterError `adapter_larger_than_cache`. */
  assertFits(sizeBytes: number): void {
    const { capacityBytes } = this.#options;
    if (sizeBytes > capacityBytes) throw errors.largerThanCache(sizeBytes, capacityBytes);
  }

  /** Resolves when all entries are resident; they stay so until the lease is released. */
  async request(entries: readonly ResidentVersion[], options: LeaseOptions = {}): Promise<Lease> {
    const { owner = null, signal } = options;
    signal?.throwIfAborted();
    const { maxWaiting, now } = this.#options;
    this.assertFits(totalBytes(entries));
    const isReady = entries.every(({ state }) => state === "resident");
    if (!isReady && this.#waiting >= maxWaiting) throw errors.tooManyWaiting(this.#waiting);
    const ticket = new Ticket(this.#lineOf(owner), entries, now());
    const abort = () => this.#fail(ticket, signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    this.#waiting++;
    for (const entry of entries) entry.waiting++;
    this.#enqueue(ticket);
    try {
      return await ticket.lease;
    } finally {
      this.#waiting--;
      for (const entry of entries) {
        entry.waiting--;
        this.#memory.rest(entry);
      }
      signal?.removeEventListener("abort", abort);
    }
  }

  #lineOf(owner: string | null): OwnerLine {
    const line = this.#lines.get(owner) ?? new OwnerLine(owner);
    this.#lines.set(owner, line);
    return line;
  }

  #enqueue(ticket: Ticket): void {
    ticket.line.tickets.add(ticket);
    this.serve();
  }

  /** To be called when memory or a version in it may have become free. */
  serve(): void {
    let isTurnOver = true;
    while (isTurnOver) isTurnOver = this.#serveRound();
  }

  /** Whether a turn has ended, so that another's may have come. */
  #serveRound(): boolean {
    for (const [owner, line] of this.#lines) if (line.isIdle) this.#lines.delete(owner);
    const { capacityBytes, now, patienceMs } = this.#options;
    const round = new LeaseRound([...this.#lines.values()], {
      sharedBytes: capacityBytes - this.#memory.pinnedBytes,
      nowMs: now(),
      patienceMs,
    });
    const [, ...others] = round.lines;
    for (const { next } of others) next?.letGo(this.#memory); // or it and the first could wait for each other
    return round.lines.some((line) => this.#serveLine(line, round));
  }

  #serveLine(line: OwnerLine, round: LeaseRound): boolean {
    let first: Ticket | null = null; // the first that has to wait
    for (const ticket of line.tickets) {
      const missing = ticket.entries.filter(({ hasMemory }) => !hasMemory);
      if (first !== null && (missing.length > 0 || !this.#mayPass(ticket, first))) continue;
      const keptBy = round.keptBy(ticket);
      if (keptBy === null && (missing.length === 0 || this.#makeRoom(ticket, missing))) {
        this.#admit(ticket, missing);
        if (first === null) return true;
      } else if (ticket.isSettled) {
        return true;
      } else if (first === null) {
        first = ticket;
        if (keptBy !== "owner") ticket.turnMs ??= this.#options.now();
        if (line !== round.lines[0]) ticket.letGo(this.#memory);
      }
    }
    return false;
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
    ticket.admit(this.#memory);
    for (const entry of missing) this.#memory.startLoad(entry);
    const grant = () =>
      ticket.resolve(() => {
        ticket.letGo(this.#memory);
        this.serve();
      });
    const isReady = () => ticket.entries.every(({ isUsable }) => isUsable);
    if (isReady()) return grant();
    const again = () => {
      if (ticket.isSettled) return; // else the host was lost meanwhile
      ticket.letGo(this.#memory); // or the first could wait for what it holds, and it for the first
      this.#enqueue(ticket);
    };
    Promise.all(ticket.entries.map(({ loaded }) => loaded)).then(
      () => (isReady() ? grant() : again()),
      (error) => this.#fail(ticket, error),
    );
  }

  #fail(ticket: Ticket, error: unknown): void {
    this.#drop(ticket, error);
    this.serve();
  }

  #drop(ticket: Ticket, error: unknown): void {
    if (ticket.isSettled) return;
    ticket.line.tickets.delete(ticket);
    ticket.reject(error);
    ticket.letGo(this.#memory);
  }

  /** Who waits for memory in vain is told so. */
  dropAll(error: unknown): void {
    for (const { tickets } of this.#lines.values()) for (const ticket of tickets) this.#drop(ticket, error);
  }
}

function totalBytes(entries: readonly ResidentVersion[]): number {
  return entries.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
