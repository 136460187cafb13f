// One tenant floods while another sends steadily. The steady one is measured alone first; the flood must leave it
// what it had, or its fair share where it had more.

import { atLeast, atMost } from "../check.ts";
import type { Phase, Scenario } from "../scenario.ts";
import type { Stage } from "../stage.ts";
import type { Stream } from "../workload.ts";
import { noErrors } from "./expectations.ts";

const floodFactor = 10;
const leastRatio = 0.9;
const mostServed = 0.9;

export const noisyNeighbour: Scenario = {
  summary: `the first --key sends steadily, the second at ${floodFactor} times its rate`,
  passes: `the steady tenant keeps ${leastRatio} of its tokens/s alone, at most of its fair share`,
  async run(stage) {
    const [steady, flood] = twoTenants(stage);
    const seconds = stage.options.durationSeconds / 2;
    // The same seed and place among the streams: the steady tenant sends the same requests at the same times.
    const alone = await stage.measure("steady alone", [steady], { seconds });
    const together = await stage.measure("steady beside flood", [steady, flood], { seconds });
    const kept = together.tenants.find(({ name }) => name === steady.tenant)!;
    const fairShare = together.figures.outputTokensPerSecond / 2;
    const due = Math.min(alone.figures.outputTokensPerSecond, fairShare);
    stage.note(
      `steady tenant: ${alone.figures.outputTokensPerSecond.toFixed(1)} tokens/s alone, ${kept.outputTokensPerSecond.toFixed(1)} beside the flood, whose half of all is ${fairShare.toFixed(1)}`,
    );
    return [
      atMost(mostServed, {
        name: "share of the flood that was served in time (raise --rate until it floods)",
        value: servedShare(together, flood.tenant),
      }),
      noErrors(alone.figures, "steady alone: "),
      noErrors(kept, "steady beside flood: "),
      atLeast(leastRatio, {
        name: "tokens/s beside the flood / the lesser of alone and fair share",
        value: kept.outputTokensPerSecond / due,
      }),
    ];
  },
};

/** Of a tenant's requests, those that finished before the phase's end. A flood that is all served is none. */
export function servedShare({ records, window }: Pick<Phase, "records" | "window">, tenant: string): number {
  const own = records.filter((record) => record.tenant === tenant);
  const served = own.filter(({ outcome, endedMs }) => outcome === "finished" && endedMs < window.toMs);
  return served.length / own.length;
}

function twoTenants(stage: Stage): [Stream, Stream] {
  const [steady, flood] = stage.options.tenants;
  const { adapters, base } = stage.models;
  const rate = steady!.requestsPerSecond;
  const poisson = (requestsPerSecond: number) => ({ kind: "poisson", requestsPerSecond }) as const;
  if (flood) {
    return [
      stage.stream(steady!, { arrivals: poisson(rate) }),
      stage.stream(flood, { arrivals: poisson(rate * floodFactor) }),
    ];
  }
  stage.note("without a second --key the neighbours are two adapters of one tenant");
  const [one = base, other = base] = adapters;
  return [
    stage.stream({ ...steady!, name: "steady" }, { arrivals: poisson(rate), models: [one] }),
    stage.stream({ ...steady!, name: "flood" }, { arrivals: poisson(rate * floodFactor), models: [other] }),
  ];
}
