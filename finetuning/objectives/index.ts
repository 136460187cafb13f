// The objectives by the name that a job asks for.

import { crossEntropy } from "./cross-entropy.ts";
import { dpo } from "./dpo.ts";
import type { Objective } from "./objective.ts";

export type ObjectiveSettings = { readonly beta: number };

export const objectives = {
  "cross-entropy": () => crossEntropy,
  dpo: ({ beta }) => dpo(beta),
} as const satisfies Record<string, (settings: ObjectiveSettings) => Objective>;

export type ObjectiveName = keyof typeof objectives;
