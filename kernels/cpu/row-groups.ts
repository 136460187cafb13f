// Which rows decode in one run. A run reads the model's weights once for all its rows, and every row of it pays
// for the longest one's capacity. So short contexts run beside a long one only where their padding costs less than
// a second run. Pure.

export type GroupCost = {
  readonly runMs: number; // of one more run
  readonly tokenMs: number; // of one token of capacity in one row
};

/** Steps after which moving rows must have paid for itself. */
const horizonSteps = 64;
/** Moving a token's keys and values (read, write, and often the first touch of a page), in reads by attention. */
const moveReads = 10;

export type PlacedRow = {
  readonly capacity: number; // where it is
  readonly least: number; // that it needs soon
  readonly length: number;
};

/** @returns the capacity at which each row should run: where it is, unless moving pays */
export function planCapacities(rows: readonly PlacedRow[], cost: GroupCost): number[] {
  const stay = rows.map(({ capacity, least }) => Math.max(capacity, least));
  const cheapest = cheapestCapacities(
    rows.map((row) => row.least),
    cost,
  );
  const moved = rows.reduce(
    (tokens, { length }, row) => (cheapest[row] === stay[row] ? tokens : tokens + length),
    0,
  );
  const gain = (stepMs(stay, cost) - stepMs(cheapest, cost)) * horizonSteps;
  return gain > moved * moveReads * cost.tokenMs ? cheapest : stay;
}

/** What a step costs beyond its rows: one run per capacity, and the padded keys and values. */
export function stepMs(capacities: readonly number[], cost: GroupCost): number {
  const tokens = capacities.reduce((sum, capacity) => sum + capacity, 0);
  return new Set(capacities).size * cost.runMs + tokens * cost.tokenMs;
}

/**
 * The cheapest partition. A group costs its rows times its largest capacity, so groups are ranges of the sorted
 * capacities, and the best end of a range follows from the best ends before it.
 */
export function cheapestCapacities(least: readonly number[], cost: GroupCost): number[] {
  const capacities = [...new Set(least)].sort((one, other) => one - other);
  const counts = capacities.map((capacity) => least.filter((one) => one === capacity).length);
  const best: { readonly ms: number; readonly first: number }[] = []; // of the ranges that end here
  for (const [end, capacity] of capacities.entries()) {
    let choice = { ms: Number.POSITIVE_INFINITY, first: end };
    let rows = 0;
    for (let first = end; first >= 0; first--) {
      rows += counts[first]!;
      const ms = (best[first - 1]?.ms ?? 0) + cost.runMs + rows * capacity * cost.tokenMs;
      if (ms < choice.ms) choice = { ms, first };
    }
    best.push(choice);
  }
  const target = new Map<number, number>();
  for (let end = capacities.length - 1; end >= 0; end = best[end]!.first - 1) {
    for (let at = best[end]!.first; at <= end; at++) target.set(capacities[at]!, capacities[end]!);
  }
  return least.map((capacity) => target.get(capacity)!);
}
