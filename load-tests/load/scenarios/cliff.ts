// One adapter more than the server can hold at once: speed may step down a little, and must not fall off. As many
// clients as adapters, each at another one, want all of them at the same time.

import { atLeast } from "../check.ts";
import { compare } from "../compare.ts";
import { type Scenario, ScenarioError } from "../scenario.ts";
import type { Stage } from "../stage.ts";
import { noErrors } from "./expectations.ts";

const leastClients = 8;
const leastRatio = 0.9;

export const cliff: Scenario = {
  summary: "a closed loop on as many adapters as the server has slots, beside one on one more",
  passes: `tokens/s on slots + 1 adapters are ${leastRatio} or more of those on slots`,
  async run(stage) {
    const slots = stage.options.slots ?? (await slotsOf(stage));
    const adapters = await stage.adapters(slots + 1);
    const streams = (models: readonly string[]) => [
      stage.stream(stage.tenant, {
        arrivals: { kind: "closed", clients: stage.options.clients ?? Math.max(leastClients, slots + 1) },
        popularity: stage.options.popularity ?? { kind: "distinct" },
        models,
      }),
    ];
    const [fits, over] = await compare(
      stage,
      { name: `${slots} adapters`, streams: streams(adapters.slice(0, slots)) },
      { name: `${slots + 1} adapters`, streams: streams(adapters) },
    );
    return [
      noErrors(fits, `${slots} adapters: `),
      noErrors(over, `${slots + 1} adapters: `),
      atLeast(leastRatio, {
        name: `tokens/s on ${slots + 1} adapters / on ${slots}`,
        value: over.outputTokensPerSecond / fits.outputTokensPerSecond,
      }),
    ];
  },
};

async function slotsOf(stage: Stage): Promise<number> {
  const slots = Number((await stage.metrics()).all("vllm:lora_requests_info")[0]?.labels.max_lora);
  if (slots > 0) return slots;
  throw new ScenarioError("the server's metrics do not say how many adapters it holds; say it with --slots");
}
