// The contract of a learning-rate schedule: what part of the full rate a step has, once warm-up is over.

/** @param progress of the steps after warm-up, 0 at the first, 1 after the last */
export type Schedule = (progress: number) => number;

export type ScheduleSteps = { readonly warmup: number; readonly total: number };

/**
 * The factor on the learning rate at a step, counted from 0: up in a straight line over the warm-up, then as the
 * schedule says. As transformers' schedules, step 0 of a warm-up has rate 0.
 */
export function rateFactor(schedule: Schedule, step: number, { warmup, total }: ScheduleSteps): number {
  if (step < warmup) return step / warmup;
  return schedule(Math.min(1, (step - warmup) / Math.max(1, total - warmup)));
}
