// A long context among short ones: what each next token of the short ones costs, and whether the long prompt makes
// them wait.

import { atLeast, atMost } from "../check.ts";
import { compare } from "../compare.ts";
import { fixedLength } from "../lengths.ts";
import type { Scenario } from "../scenario.ts";
import { noErrors } from "./expectations.ts";

const defaultClients = 16;
const leastSpeed = 0.7;
const lengths = { short: 100, long: 2000, output: 64 };

export const longContext: Scenario = {
  summary: "--clients (16) contexts of 100 tokens, beside the same with one of 2,000 among them",
  passes: `the mix decodes at ${leastSpeed} of the speed or more, and its p99 gap stays under the SLO plus a step`,
  async run(stage) {
    const { clients, slo } = stage.options;
    const count = Math.max(2, clients ?? defaultClients);
    const long = Math.min(lengths.long, Math.floor(stage.models.contextTokens * 0.6));
    if (long < lengths.long) stage.note(`the context has room for a prompt of ${long} tokens only`);
    const streamOf = (tenant: string, promptTokens: number, number: number) =>
      stage.stream(
        { ...stage.tenant, name: tenant },
        {
          arrivals: { kind: "closed", clients: number },
          prompt: fixedLength(promptTokens),
          output: fixedLength(lengths.output),
        },
      );
    const [short, mixed] = await compare(
      stage,
      { name: "short contexts", streams: [streamOf("short", lengths.short, count)] },
      {
        name: "with a long one",
        streams: [streamOf("short", lengths.short, count - 1), streamOf("long", long, 1)],
      },
    );
    return [
      noErrors(short, "short contexts: "),
      noErrors(mixed, "with a long one: "),
      atLeast(leastSpeed, {
        name: "decode speed with a long context / without (median gaps)",
        value: short.gapMs.p50 / mixed.gapMs.p50,
      }),
      atMost(slo.tpotMs + short.gapMs.p50, {
        name: "gap beside a long prompt, p99",
        value: mixed.gapMs.p99,
        unit: " ms",
      }),
    ];
  },
};
