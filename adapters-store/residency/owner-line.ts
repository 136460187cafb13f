// One owner's requests that wait for memory, in order of arrival, and what its leases keep there. Decides nothing.

import type { ResidentVersion } from "./resident-version.ts";
import type { Ticket } from "./ticket.ts";

export class OwnerLine {
  readonly owner: string | null; // null = nobody's in particular, which no share bounds
  readonly tickets = new Set<Ticket>();
  readonly #leases = new Map<ResidentVersion, number>();

  constructor(owner: string | null) {
    this.owner = owner;
  }

  get isIdle(): boolean {
    return this.tickets.size === 0 && this.#leases.size === 0;
  }

  get next(): Ticket | undefined {
    return this.tickets.values().next().value;
  }

  admit(ticket: Ticket): void {
    this.tickets.delete(ticket);
    for (const entry of ticket.entries) {
      const leases = this.#leases.get(entry) ?? 0;
      this.#leases.set(entry, leases + 1);
      if (leases === 0) entry.owners++;
    }
  }

  /** What an admitted one had. */
  release({ entries }: Ticket): void {
    for (const entry of entries) {
      const leases = this.#leases.get(entry)! - 1;
      if (leases > 0) this.#leases.set(entry, leases);
      else if (this.#leases.delete(entry)) entry.owners--;
    }
  }

  /** Pinned versions are nobody's, and of one that several owners lease each has an equal part. */
  bytesOf({ entries }: Ticket): { heldBytes: number; addedBytes: number } {
    const added = entries.filter((entry) => !this.#leases.has(entry));
    return {
      heldBytes: sum([...this.#leases.keys()].map((entry) => partOf(entry, entry.owners))),
      addedBytes: sum(added.map((entry) => partOf(entry, entry.owners + 1))),
    };
  }
}

function partOf({ isPinned, sizeBytes }: ResidentVersion, owners: number): number {
  return isPinned ? 0 : sizeBytes / owners;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
