// What the first request to an adapter waits for: one client asks every adapter twice in a row, and the first
// answer's wait for its first token is compared with the second's.

import { atLeast, atMost, type Check } from "../check.ts";
import { fixedLength } from "../lengths.ts";
import { timeToFirstTokenMs } from "../request-record.ts";
import { Samples } from "../samples.ts";
import { type Phase, type Scenario, ScenarioError } from "../scenario.ts";
import type { Stage } from "../stage.ts";
import { noErrors } from "./expectations.ts";

const defaultCount = 32;
const defaultCompression = JSON.stringify({ method: "compeft", density: 0.05 });
const mostExtraMs = 40;
const promptTokens = 32;
const outputTokens = 4;

export const coldAdapters: Scenario = {
  summary:
    "each of --count (32) adapters twice in a row; the server has memory for fewer, and stores generated ones by --compress (compeft, 5%)",
  passes: `the median of first minus second time to first token is at most ${mostExtraMs} ms`,
  async run(stage) {
    const { count, compress } = stage.options;
    const adapters = await stage.adapters(count ?? defaultCount, compress ?? defaultCompression);
    if (adapters.length < 2) throw new ScenarioError("cold-adapters needs two adapters or more");
    const stream = stage.stream(stage.tenant, {
      arrivals: { kind: "closed", clients: 1 },
      popularity: { kind: "distinct" },
      models: adapters.flatMap((adapter) => [adapter, adapter]),
      requestsPerClient: 2 * adapters.length,
      prompt: fixedLength(promptTokens),
      output: fixedLength(outputTokens),
    });
    const before = await foundInStore(stage);
    const phase = await stage.measure("cold and resident", [stream], {
      seconds: stage.options.durationSeconds,
    });
    const after = await foundInStore(stage);
    const extraMs = extraWaits(phase);
    stage.note(
      `first minus second time to first token: p50 ${extraMs.quantile(0.5).toFixed(1)} ms, p90 ${extraMs.quantile(0.9).toFixed(1)} ms over ${extraMs.count} adapters`,
    );
    return [
      noErrors(phase.figures),
      atLeast(Math.min(5, adapters.length), { name: "adapters asked twice", value: extraMs.count }),
      ...wereCold(stage, { asked: extraMs.count, before, after }),
      atMost(mostExtraMs, {
        name: "extra wait of a cold adapter, p50",
        value: extraMs.quantile(0.5),
        unit: " ms",
      }),
    ];
  },
};

/** Requests that found their adapter neither in memory nor on the device; null where the server does not tell. */
async function foundInStore(stage: Stage): Promise<number | null> {
  return (await stage.metrics()).sum("cotenant_adapter_hits_total", ({ tier }) => tier === "store");
}

type Found = { readonly asked: number; readonly before: number | null; readonly after: number | null };

/** An upload is in memory at once: adapters are cold when others have taken their places. */
function wereCold(stage: Stage, { asked, before, after }: Found): Check[] {
  if (before === null || after === null) {
    stage.note(
      "the server does not say where requests found their adapters: whether these were cold is not known",
    );
    return [];
  }
  const name = "requests whose adapter was on disk only";
  const value = after - before;
  return [
    atLeast(asked, {
      name: `${name}, as every first one's (needs --host-cache-bytes for fewer than --count)`,
      value,
    }),
    atMost(asked, { name: `${name}, as no second one's`, value }),
  ];
}

/** Records come in the order in which they were sent, so an adapter's two are neighbours. */
export function extraWaits({ records }: Pick<Phase, "records">): Samples {
  const extraMs = new Samples();
  for (let index = 0; index + 1 < records.length; index += 2) {
    const cold = timeToFirstTokenMs(records[index]!);
    const resident = timeToFirstTokenMs(records[index + 1]!);
    if (cold !== null && resident !== null) extraMs.add(cold - resident);
  }
  return extraMs;
}
