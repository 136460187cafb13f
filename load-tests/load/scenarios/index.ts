// Every scenario. Adding one is a file and a line here; --help lists it by itself.

import type { Scenario } from "../scenario.ts";
import { bursty } from "./bursty.ts";
import { cliff } from "./cliff.ts";
import { coServing } from "./co-serving.ts";
import { coldAdapters } from "./cold-adapters.ts";
import { longContext } from "./long-context.ts";
import { manyAdapters } from "./many-adapters.ts";
import { noisyNeighbour } from "./noisy-neighbour.ts";
import { soak } from "./soak.ts";
import { steady } from "./steady.ts";

export const scenarios = {
  steady,
  bursty,
  "many-adapters": manyAdapters,
  "cold-adapters": coldAdapters,
  cliff,
  "noisy-neighbour": noisyNeighbour,
  "long-context": longContext,
  "co-serving": coServing,
  soak,
} as const satisfies Record<string, Scenario>;

export type ScenarioName = keyof typeof scenarios;
