// What the memory for finetuning leaves beside the jobs, spent on speed. No bit of a result depends on it.

import type { SpareMemory } from "../kernels/training/training-kernel.ts";

export type SpendingJob = {
  readonly bytes: number; // that it cannot do without
  readonly backward: boolean; // else it uses nothing that memory is spent on
  readonly keepableBytes: number; // of a pass, for what would else be recomputed
};

/** Results that are kept save a quarter of a pass, widened weights a few hundredths: these get what is left. */
const keptShare = 3 / 4;

/** @throws RangeError where the jobs alone need more */
export function spareMemory(memoryBytes: number, jobs: readonly SpendingJob[]): SpareMemory {
  const spareBytes = memoryBytes - jobs.reduce((sum, { bytes }) => sum + bytes, 0);
  if (spareBytes < 0) throw new RangeError("the jobs need more than the memory that there is");
  const spending = jobs.filter(({ backward }) => backward);
  if (spending.length === 0) return { keptBytes: 0, widenedBytes: 0 };
  const keepableBytes = Math.max(...spending.map((job) => job.keepableBytes));
  const keptBytes = Math.floor(Math.min(keepableBytes, (keptShare * spareBytes) / spending.length));
  return { keptBytes, widenedBytes: spareBytes - spending.length * keptBytes };
}
