// The registry of scheduling policies.

import type { SchedulingPolicy } from "../scheduling-policy.ts";
import { firstCome } from "./first-come.ts";

export const schedulingPolicies = {
  "first-come": firstCome,
} as const satisfies Record<string, SchedulingPolicy>;

export type SchedulingPolicyName = keyof typeof schedulingPolicies;
