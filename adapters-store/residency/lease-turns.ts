// Whose request for adapter versions is next, where several owners share the memory. Pure functions; they know no
// versions and no queue.
//
// - What an owner's leases keep in memory is bounded by its share: as if one owner more were there than there are, so
//   that whoever comes finds room. Only who holds nothing may take more, or a large adapter would never be served.
// - Whoever needs memory within its share waits only for leases that are there already: owners above theirs get no
//   further ones meanwhile.
// - Whoever needs more than its share lets the others pass, until it is overdue: then nobody whose turn came later gets
//   a lease before it. An owner has one turn at a time, so at most one request of each other owner goes before it.

/** An owner's next request, or one that would pass it. */
export type Claim = {
  readonly heldBytes: number; // what its owner's other leases keep in memory
  readonly addedBytes: number; // what its own would keep besides
  readonly turnMs: number; // since when others alone keep it from its lease
};

export type Sharing = {
  readonly shareBytes: number;
  readonly overdueFromMs: number; // turns that began earlier are overdue
};

export function shareBytes(capacityBytes: number, owners: number): number {
  return capacityBytes / (owners + 1);
}

/** Whether its owner's own leases have to end first. It has no turn until then, and keeps nobody else waiting. */
export function waitsForOwn(claim: Claim, sharing: Sharing): boolean {
  return claim.heldBytes > 0 && isAbove(claim, sharing);
}

/** For sorting: below zero where the first one's turn comes first. */
export function compareTurns(a: Claim, b: Claim, sharing: Sharing): number {
  return Number(isEntitled(b, sharing)) - Number(isEntitled(a, sharing)) || a.turnMs - b.turnMs;
}

/** Whether one that waits keeps another owner's from its lease. */
export function bars(waiting: Claim, other: Claim, sharing: Sharing): boolean {
  const isFirst = isEntitled(waiting, sharing) && compareTurns(waiting, other, sharing) < 0;
  return isFirst && (isAbove(waiting, sharing) || isAbove(other, sharing));
}

function isEntitled(claim: Claim, sharing: Sharing): boolean {
  return !isAbove(claim, sharing) || claim.turnMs < sharing.overdueFromMs;
}

function isAbove({ heldBytes, addedBytes }: Claim, { shareBytes }: Sharing): boolean {
  return heldBytes + addedBytes > shareBytes;
}
