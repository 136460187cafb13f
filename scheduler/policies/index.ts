// The registry of scheduling policies.

import type { SchedulingPolicy } from "../scheduling-policy.ts";
import { adapterAffinity } from "./adapter-affinity.ts";
import { deadline } from "./deadline.ts";
import { fairShare } from "./fair-share.ts";
import { firstCome } from "./first-come.ts";

export const schedulingPolicies = {
  "first-come": firstCome,
  "fair-share": fairShare,
  deadline,
  "adapter-affinity": adapterAffinity,
} as const satisfies Record<string, SchedulingPolicy>;

export type SchedulingPolicyName = keyof typeof schedulingPolicies;
export const schedulingPolicyNames = Object.keys(schedulingPolicies) as SchedulingPolicyName[];
