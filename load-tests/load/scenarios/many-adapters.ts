// What a long catalogue of adapters costs: the same clients ask for five adapters, then for all of them.

import { atLeast } from "../check.ts";
import { compare } from "../compare.ts";
import type { Scenario } from "../scenario.ts";
import { noErrors } from "./expectations.ts";

const few = 5;
const defaultCount = 2000;
const defaultClients = 8;
const leastRatio = 0.95;

export const manyAdapters: Scenario = {
  summary: "a closed loop on 5 adapters beside one on --count (2000), Zipf-popular",
  passes: `tokens/s on all adapters are ${leastRatio} or more of those on ${few}`,
  async run(stage) {
    const { clients, popularity, count } = stage.options;
    const adapters = await stage.adapters(count ?? defaultCount);
    const streams = (models: readonly string[]) => [
      stage.stream(stage.tenant, {
        arrivals: { kind: "closed", clients: clients ?? defaultClients },
        popularity: popularity ?? { kind: "zipf", alpha: 1 },
        models,
      }),
    ];
    const [short, long] = await compare(
      stage,
      { name: `${few} adapters`, streams: streams(adapters.slice(0, few)) },
      { name: `${adapters.length} adapters`, streams: streams(adapters) },
    );
    return [
      noErrors(short, `${few} adapters: `),
      noErrors(long, `${adapters.length} adapters: `),
      atLeast(leastRatio, {
        name: `tokens/s on ${adapters.length} adapters / on ${few}`,
        value: long.outputTokensPerSecond / short.outputTokensPerSecond,
      }),
    ];
  },
};
