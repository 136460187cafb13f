// Prefers sequences whose adapter is at hand: one with a row, or at least in device slots, or none at all. The
// preference is a head start in time, so nobody waits for one that came more than the longest head start later.

import type { SchedulingPolicy, Snapshot } from "../scheduling-policy.ts";

const headStartMs = { running: 1000, resident: 500 };

export const adapterAffinity: SchedulingPolicy = {
  order(pending, snapshot) {
    const running = runningAdapters(snapshot);
    const startMs = (version: string | null) => {
      if (version === null || running.has(version)) return headStartMs.running;
      return snapshot.residentAdapters.has(version) ? headStartMs.resident : 0;
    };
    return pending.toSorted(
      (a, b) => a.arrivedMs - startMs(a.adapterVersion) - (b.arrivedMs - startMs(b.adapterVersion)),
    );
  },
};

function runningAdapters({ sequences }: Snapshot): ReadonlySet<string | null> {
  return new Set(
    sequences.flatMap(({ state, adapterVersion }) => (state === "waiting" ? [] : [adapterVersion])),
  );
}
