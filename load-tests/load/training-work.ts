// How much a server trained between two scrapes, in a measure that does not depend on where in a step they fall: a
// step is seconds, and its units differ by a hundred times, so counts of steps or units do.

import type { UnitTotals } from "../../scheduler/protocol.ts";
import type { MetricsText } from "./metrics-text.ts";

/** Units of training by kind. */
export type UnitCounts = ReadonlyMap<string, UnitTotals>;

export function unitCounts(metrics: MetricsText): UnitCounts {
  const seconds = new Map(
    metrics.all("cotenant_training_unit_seconds_total").map(({ labels, value }) => [labels.kind, value]),
  );
  return new Map(
    metrics.all("cotenant_training_units_total").map(({ labels: { kind }, value }) => {
      return [kind!, { count: value, seconds: seconds.get(kind) ?? 0 }];
    }),
  );
}

export function unitsBetween(before: UnitCounts, after: UnitCounts): UnitCounts {
  const negative = [...before].map(([kind, { count, seconds }]) => {
    return [kind, { count: -count, seconds: -seconds }] as const;
  });
  return unitsOfAll([after, new Map(negative)]);
}

export function unitsOfAll(all: readonly UnitCounts[]): UnitCounts {
  const sums = new Map<string, UnitTotals>();
  for (const [kind, { count, seconds }] of all.flatMap((units) => [...units])) {
    const sum = sums.get(kind) ?? { count: 0, seconds: 0 };
    sums.set(kind, { count: sum.count + count, seconds: sum.seconds + seconds });
  }
  return sums;
}

/** Seconds that the units would have taken at the pace of others; kinds of which those have none are left out. */
export function secondsAtPaceOf(units: UnitCounts, others: UnitCounts): number {
  return [...units].reduce((sum, [kind, { count }]) => {
    const other = others.get(kind);
    return other === undefined || other.count === 0 ? sum : sum + (count * other.seconds) / other.count;
  }, 0);
}
