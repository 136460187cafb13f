// Measures two settings in turn, A B A B, and sums each one's rounds up: a machine whose speed drifts treats both
// alike.

import type { Phase } from "./scenario.ts";
import type { Stage } from "./stage.ts";
import { type Figures, Summary } from "./summary.ts";
import type { Stream } from "./workload.ts";

export type Setting = { readonly name: string; readonly streams: readonly Stream[] };

const rounds = 2;

/** Splits the run's duration evenly. */
export async function compare(stage: Stage, a: Setting, b: Setting): Promise<readonly [Figures, Figures]> {
  const seconds = stage.options.durationSeconds / (2 * rounds);
  const measured: readonly [Phase[], Phase[]] = [[], []];
  for (let round = 1; round <= rounds; round++) {
    for (const [index, { name, streams }] of [a, b].entries()) {
      const period = { seconds, seed: stage.options.seed + round };
      measured[index]!.push(await stage.measure(`${name}, round ${round}`, streams, period));
    }
  }
  return [together(stage, measured[0]), together(stage, measured[1])];
}

function together(stage: Stage, phases: readonly Phase[]): Figures {
  const summary = new Summary(stage.options.slo);
  for (const { records, window } of phases) summary.add(records, window);
  return summary.figures();
}
