// Conversations at a steady rate: what a server does on an ordinary day.

import type { Arrivals } from "../arrivals.ts";
import type { Tenant } from "../option-values.ts";
import type { Scenario } from "../scenario.ts";
import { goodputShare, noErrors } from "./expectations.ts";

const leastGoodput = 0.95;

export const steady: Scenario = {
  summary: "Poisson arrivals of every tenant at its rate, or --clients in a closed loop",
  passes: `no request fails, and ${leastGoodput} of them meet the SLO`,
  async run(stage) {
    const { tenants, clients, durationSeconds } = stage.options;
    const arrivals = ({ requestsPerSecond }: Tenant): Arrivals =>
      clients === null ? { kind: "poisson", requestsPerSecond } : { kind: "closed", clients };
    const streams = tenants.map((tenant) => stage.stream(tenant, { arrivals: arrivals(tenant) }));
    const { figures } = await stage.measure("steady", streams, { seconds: durationSeconds });
    return [noErrors(figures), goodputShare(leastGoodput, figures)];
  },
};
