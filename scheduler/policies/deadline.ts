// The earliest due time first: the first token is due by the time-to-first-token target or when the request expires,
// the next token of a preempted sequence by the inter-token target. Nobody waits for one that came more than the
// time-to-first-token target later.

import type { LatencyTargets, SchedulingPolicy, SequenceSnapshot } from "../scheduling-policy.ts";

export const deadline: SchedulingPolicy = {
  order: (pending, { targets }) => pending.toSorted((a, b) => dueMs(a, targets) - dueMs(b, targets)),
};

function dueMs({ arrivedMs, lastTokenMs, expiresMs }: SequenceSnapshot, targets: LatencyTargets): number {
  if (lastTokenMs !== null) return lastTokenMs + targets.tpotMs;
  return Math.min(arrivedMs + targets.ttftMs, expiresMs ?? Number.POSITIVE_INFINITY);
}
