// Processor time that a virtual machine's host gave to others, as Linux counts it: what slows a measurement from
// outside.

import { readFileSync } from "node:fs";

/** Since the machine's start, in the kernel's ticks. */
export type ProcessorTime = {
  readonly stolen: number; // of all processors together
  readonly each: number; // that one processor had, stolen ones and idle ones included
};

/** Null where the system does not count it. */
export function processorTime(): ProcessorTime | null {
  try {
    return parseProcessorTime(readFileSync("/proc/stat", "utf8"));
  } catch {
    return null;
  }
}

const stolenField = 7; // of the line of all processors: user, nice, system, idle, iowait, irq, softirq, steal
const countedFields = 8; // guests' time, which follows, is in user's already

export function parseProcessorTime(stat: string): ProcessorTime | null {
  const ticks = /^cpu\s+(.*)$/m.exec(stat)?.[1]?.split(/\s+/).slice(0, countedFields).map(Number);
  if (ticks?.length !== countedFields || ticks.some(Number.isNaN)) return null;
  const processors = stat.match(/^cpu\d+ /gm)?.length ?? 1;
  return { stolen: ticks[stolenField]!, each: ticks.reduce((sum, one) => sum + one, 0) / processors };
}

/**
 * Share of the time between the two in which a processor was taken away, at most: what runs on all of them in step
 * waits for each of them. 0 where it is not counted.
 */
export function stolenShare(before: ProcessorTime | null, after: ProcessorTime | null): number {
  if (before === null || after === null || after.each === before.each) return 0;
  return Math.min(1, (after.stolen - before.stolen) / (after.each - before.each));
}

const tickMs = 10; // in which Linux tells it, whatever its own ticks are
const readEveryMs = 5; // a reading takes 0.04

/**
 * A clock that stands still while one of the processors is taken away, in milliseconds: what runs on all of them in step
 * waits for it. It hears of that a tick later, so short times on it are rough; it never goes back.
 */
export function clockOfHadTime(
  machinesNow = performance.now.bind(performance),
  read: () => Pick<ProcessorTime, "stolen"> | null = processorTime,
): () => number {
  const takenMs = () => tickMs * (read()?.stolen ?? 0);
  const beforeMs = takenMs();
  let stolenMs = 0;
  let readMs = Number.NEGATIVE_INFINITY;
  let shownMs = Number.NEGATIVE_INFINITY;
  return () => {
    const nowMs = machinesNow();
    if (nowMs - readMs >= readEveryMs) {
      readMs = nowMs;
      stolenMs = takenMs() - beforeMs;
    }
    shownMs = Math.max(shownMs, nowMs - stolenMs);
    return shownMs;
  };
}
