// What lease-turns.ts says of the lines as they are at one moment, until the turn of one of them ends.

import { bars, type Claim, compareTurns, type Sharing, shareBytes, waitsForOwn } from "./lease-turns.ts";
import type { OwnerLine } from "./owner-line.ts";
import type { Ticket } from "./ticket.ts";

export type RoundOptions = {
  readonly sharedBytes: number; // memory that is not pinned
  readonly nowMs: number;
  readonly patienceMs: number; // how long a turn lasts until it is overdue
};

export class LeaseRound {
  readonly lines: readonly OwnerLine[]; // those where somebody waits, whose turn is first foremost
  readonly #nowMs: number;
  readonly #sharing: Sharing;
  readonly #turns = new Map<OwnerLine, Claim>();

  constructor(lines: readonly OwnerLine[], { sharedBytes, nowMs, patienceMs }: RoundOptions) {
    const owners = lines.filter(({ owner }) => owner !== null).length;
    this.#nowMs = nowMs;
    this.#sharing = { shareBytes: shareBytes(sharedBytes, owners), overdueFromMs: nowMs - patienceMs };
    for (const line of lines) {
      const claim = line.next && this.#claimOf(line.next);
      if (claim && !this.#waitsForOwn(line, claim)) this.#turns.set(line, claim);
    }
    const inTurn = [...this.#turns].sort(([, a], [, b]) => compareTurns(a, b, this.#sharing));
    const others = lines.filter((line) => line.next && !this.#turns.has(line));
    this.lines = [...inTurn.map(([line]) => line), ...others];
  }

  /** Whose leases or turns keep the request from its lease; null = nobody's, if there is memory. */
  keptBy(ticket: Ticket): "owner" | "others" | null {
    if (ticket.entries.every(({ isPinned }) => isPinned)) return null;
    const claim = this.#claimOf(ticket);
    const waitsForOwn = this.#waitsForOwn(ticket.line, claim);
    const isBarred = [...this.#turns].some(
      ([line, turn]) => line !== ticket.line && bars(turn, claim, this.#sharing),
    );
    if (!isBarred && !(waitsForOwn && claim.addedBytes > 0)) return null;
    return waitsForOwn ? "owner" : "others";
  }

  #claimOf(ticket: Ticket): Claim {
    return { ...ticket.line.bytesOf(ticket), turnMs: ticket.turnMs ?? this.#nowMs };
  }

  #waitsForOwn({ owner }: OwnerLine, claim: Claim): boolean {
    return owner !== null && waitsForOwn(claim, this.#sharing);
  }
}
