// First come, first served. Nobody waits for anybody who came later.

import type { SchedulingPolicy } from "../scheduling-policy.ts";

export const firstCome: SchedulingPolicy = {
  order: (pending) => pending,
};
