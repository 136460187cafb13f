// What residency tells of its versions, and of itself. Changes nothing.

import type { ResidencyState, ResidentVersion } from "./resident-version.ts";

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

export function residencyOf(entry: ResidentVersion): VersionResidency {
  const { version, state, sizeBytes, leases, isPinned, hits, misses, loads, lastUsedMs } = entry;
  return { version, state, sizeBytes, leases, isPinned, hits, misses, loads, lastUsedMs };
}

/** Of versions in memory, those used last: so few that each may be a series of a metric. */
export function recentlyUsed(entries: Iterable<ResidentVersion>, limit: number): VersionResidency[] {
  const resident = [...entries].filter(({ state }) => state === "resident");
  const newestFirst = resident.sort((a, b) => (b.lastUsedMs ?? 0) - (a.lastUsedMs ?? 0));
  return newestFirst.slice(0, limit).map(residencyOf);
}
