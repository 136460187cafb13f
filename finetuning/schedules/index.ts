// The schedules by the name that a job asks for. Each is one line, so they share a file.

import type { Schedule } from "./schedule.ts";

export const schedules = {
  constant: () => 1,
  linear: (progress) => 1 - progress,
  cosine: (progress) => 0.5 * (1 + Math.cos(Math.PI * progress)), // SGDR, arXiv 1608.03983, without restarts
} as const satisfies Record<string, Schedule>;

export type ScheduleName = keyof typeof schedules;
