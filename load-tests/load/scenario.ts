// The contract of a scenario: it measures phases on a stage and says what has to hold of them.

import type { Check } from "./check.ts";
import type { RequestRecord } from "./request-record.ts";
import type { ClientHealth } from "./run-workload.ts";
import type { Stage } from "./stage.ts";
import type { Figures, GroupFigures, Window } from "./summary.ts";

export type Scenario = {
  readonly summary: string; // one line, for --help
  readonly passes: string; // when, in one line
  run(stage: Stage): Promise<readonly Check[]>;
};

/** One workload, run and summarized. */
export type Phase = {
  readonly name: string;
  readonly records: readonly RequestRecord[];
  readonly window: Window;
  readonly client: ClientHealth;
  readonly loadAverage: number; // at its end
  readonly figures: Figures;
  readonly tenants: readonly GroupFigures[];
  readonly adapters: readonly GroupFigures[];
};

/** The scenario cannot run here; the message says what it needs. */
export class ScenarioError extends Error {}
