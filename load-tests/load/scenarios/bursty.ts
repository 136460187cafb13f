// The same rate as `steady`, in bursts: gamma-distributed gaps, most of them short and some long.

import type { Scenario } from "../scenario.ts";
import { goodputShare, noErrors } from "./expectations.ts";

const leastGoodput = 0.8;

export const bursty: Scenario = {
  summary: "gamma arrivals (--variation) of every tenant at its rate",
  passes: `no request fails, and ${leastGoodput} of them meet the SLO`,
  async run(stage) {
    const { tenants, variation, durationSeconds } = stage.options;
    const streams = tenants.map((tenant) =>
      stage.stream(tenant, {
        arrivals: { kind: "bursty", requestsPerSecond: tenant.requestsPerSecond, variation },
      }),
    );
    const { figures } = await stage.measure("bursty", streams, { seconds: durationSeconds });
    return [noErrors(figures), goodputShare(leastGoodput, figures)];
  },
};
