// npm run co-serving -- --model DIR: what finetuning and serving get beside each other, and what each gets alone, in one
// run. Over HTTP, on servers of this checkout; the settings take turns. Shown beside it: the same training in a second
// server, which shares the processor by the operating system's scheduler.

import { loadavg } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { CommandLine } from "../scripts/command-line.ts";
import { withEmbeddedServer } from "../scripts/embedded-server.ts";
import { baseModel } from "./held-out.ts";
import type { Arrivals } from "./load/arrivals.ts";
import { FinetuningJob } from "./load/finetuning-job.ts";
import { HttpClient } from "./load/http-client.ts";
import { fixedLength } from "./load/lengths.ts";
import { MetricsText } from "./load/metrics-text.ts";
import { runHeader } from "./load/run-header.ts";
import { runWorkload } from "./load/run-workload.ts";
import { calibrate } from "./load/served-models.ts";
import { type Figures, Summary } from "./load/summary.ts";

const usage = `npm run co-serving -- --model DIR [flags]

  --model DIR        checkpoint of the base
  --loads LIST       of the serving capacity, in percent (25,50,75,100)
  --seconds N        of each measurement, from when answers end as fast as they begin (30)
  --rounds N         (2)
  --rows N           --max-rows of the server (16)
  --prompt N         tokens of a prompt (96)
  --output N         tokens of an answer (48)
  --quantize Q       int4, int8 or none (int4)
  --ttft N, --tpot N targets in ms (2000, 200)
  --separate yes|no  also with the training in a second server, at each load (yes)`;

const names = ["model", "loads", "seconds", "rounds", "rows", "prompt", "output", "quantize"];
const commandLine = new CommandLine(usage, [...names, "ttft", "tpot", "separate"]);
const model = commandLine.string("model");
const seconds = commandLine.whole("seconds", 30);
const rounds = commandLine.whole("rounds", 2);
const rows = commandLine.whole("rows", 16);
const promptTokens = commandLine.whole("prompt", 96);
const outputTokens = commandLine.whole("output", 48);
const quantize = commandLine.string("quantize", "int4");
const slo = { ttftMs: commandLine.whole("ttft", 2000), tpotMs: commandLine.whole("tpot", 200) };
/** Before that, requests come and none goes: figures would be of fewer than the load has. */
const longestAnswerMs = outputTokens * slo.tpotMs;
const withSeparate = commandLine.string("separate", "yes") === "yes";
const loads = commandLine
  .string("loads", "25,50,75,100")
  .split(",")
  .map((text) => Number(text) / 100);

/** The bars of the product's promise. */
const bars = { goodput: { alone: 0.995, beside: 0.99 }, training: 0.8, sum: 0.92 };

const serverFlags = [
  "--model",
  model,
  "--max-rows",
  String(rows),
  "--quantize",
  quantize,
  "--log-level",
  "warn",
];

/** One thing measured, over the rounds. */
type Sums = {
  readonly summary: Summary;
  units: number;
  tokens: number;
  busySeconds: number;
  seconds: number;
};

type Counters = Record<"atSeconds" | "units" | "tokens" | "busySeconds", number>;

type Host = {
  readonly url: string;
  readonly client: HttpClient;
  readonly base: string;
  readonly tokensPerWord: number;
};

const results = new Map<string, Sums>();

await withHost(async (host) => {
  const header = await runHeader(process.argv.slice(2), host.client);
  console.log(
    JSON.stringify({ ...header, command: `npm run co-serving -- ${process.argv.slice(2).join(" ")}` }),
  );
  if (!withSeparate) return measureAll(host, null);
  await withHost((second) => measureAll(host, second));
});
report();
console.log(`load average ${loadavg()[0]!.toFixed(1)}`);

async function measureAll(host: Host, second: Host | null): Promise<void> {
  await measure(host, ["warm-up"], { kind: "closed", clients: rows });
  await besideJob(host, () => measure(host, ["warm-up"], null)); // the first job's weights come from the disk
  const full = await measure(host, ["capacity"], { kind: "closed", clients: rows });
  const { requestsPerSecond } = full;
  console.log(
    `capacity ${requestsPerSecond.toFixed(2)} requests/s, ${full.outputTokensPerSecond.toFixed(0)} tokens/s`,
  );
  const turns = Array.from({ length: rounds }, (_, round) => loads.map((load) => ({ round, load }))).flat();
  for (const [index, { round, load }] of turns.entries()) {
    await alone(host, turns.slice(Math.max(0, index - 1), index + 1));
    const arrivals: Arrivals = { kind: "poisson", requestsPerSecond: load * requestsPerSecond };
    await measure(host, [`serving ${load}`], arrivals, { seed: round });
    await besideJob(host, () => measure(host, [`both ${load}`], arrivals, { seed: round }));
    if (second !== null) {
      await besideJob(second, () =>
        measure(host, [`apart ${load}`], arrivals, { seed: round, trainer: second }),
      );
    }
  }
  await alone(host, turns.slice(-1));
}

/** Right before and after what is compared with it: the machine's speed drifts within a run. */
async function alone(host: Host, turns: readonly { readonly load: number }[]): Promise<void> {
  const names = (kind: string) => turns.map(({ load }) => `${kind} ${load}`);
  await measure(host, names("capacity"), { kind: "closed", clients: rows });
  await besideJob(host, () => measure(host, names("training alone"), null));
}

async function besideJob(host: Host, work: () => Promise<unknown>): Promise<void> {
  const job = await FinetuningJob.start({
    client: host.client,
    key: null,
    model: host.base,
    tokensPerWord: host.tokensPerWord,
    seed: 1,
    examples: 256,
    epochs: 1000,
    promptTokens: 64,
    answerTokens: 32,
    hyperparameters: { batch_size: 4 },
  });
  try {
    await delay(2000); // the kernel opens, the first step runs
    await work();
    const status = await job.status();
    if (status !== "running")
      throw new Error(`the job was ${status}, not running, at the end of a measurement`);
  } finally {
    await job.end();
  }
}

/**
 * @param names of what the figures count for
 * @param arrivals null = nobody asks
 * @param options `trainer` is the server whose training counts
 */
async function measure(
  host: Host,
  names: readonly string[],
  arrivals: Arrivals | null,
  { seed = 0, trainer = host }: { readonly seed?: number; readonly trainer?: Host } = {},
): Promise<Figures> {
  const name = names.join(", ");
  const all = names.map(sumsOf);
  const rampMs = arrivals === null ? 0 : longestAnswerMs;
  const window = { fromMs: rampMs, toMs: rampMs + seconds * 1000 };
  const counted = Promise.all(
    Object.values(window).map((ms) => delay(ms).then(() => counters(host, trainer))),
  );
  const own = new Summary(slo);
  if (arrivals !== null) {
    const stream = {
      tenant: "default",
      key: null,
      arrivals,
      models: [host.base],
      popularity: { kind: "uniform" as const },
      prompt: fixedLength(promptTokens),
      output: fixedLength(outputTokens),
      cancelShare: 0,
      requestsPerClient: null,
    };
    const { records, client } = await runWorkload(
      {
        url: host.url,
        shape: { endpoint: "completions", vllmFields: true, tokensPerWord: host.tokensPerWord },
        workload: { seed: seed + 1, durationMs: window.toMs, streams: [stream] },
        workers: 1,
        drainMs: 60_000,
      },
      () => {},
    );
    if (client.bottleneck !== null) console.log(`${name}: the client was a bottleneck: ${client.bottleneck}`);
    for (const { summary } of all) summary.add(records, window);
    own.add(records, window);
  }
  const [before, after] = (await counted) as [Counters, Counters];
  const spent = (of: keyof Counters) => after[of] - before[of];
  for (const sums of all) {
    sums.units += spent("units");
    sums.tokens += spent("tokens");
    sums.busySeconds += spent("busySeconds");
    sums.seconds += spent("atSeconds");
  }
  const figures = own.figures();
  console.log(
    `${name}: ${figures.outputTokensPerSecond.toFixed(0)} tokens/s served, ${(spent("units") / spent("atSeconds")).toFixed(1)} units trained, ${(100 * figures.goodput.share).toFixed(1)}% in time, ttft p99 ${figures.ttftMs.p99.toFixed(0)}, gap p99 ${figures.gapMs.p99.toFixed(0)} ms`,
  );
  return figures;
}

function sumsOf(name: string): Sums {
  const sums = results.get(name) ?? {
    summary: new Summary(slo),
    units: 0,
    tokens: 0,
    busySeconds: 0,
    seconds: 0,
  };
  results.set(name, sums);
  return sums;
}

function report(): void {
  console.log();
  for (const load of loads) {
    const capacity = sumsOf(`capacity ${load}`).summary.figures().outputTokensPerSecond;
    const solo = sumsOf(`training alone ${load}`);
    console.log(
      `load ${load}: serving alone ${capacity.toFixed(0)} tokens/s, training alone ${(solo.tokens / solo.seconds).toFixed(0)} tokens/s`,
    );
    const alone = results.get(`serving ${load}`)!;
    const busy = alone.busySeconds / alone.seconds;
    for (const kind of withSeparate ? ["both", "apart"] : ["both"]) {
      const sums = results.get(`${kind} ${load}`)!;
      const figures = sums.summary.figures();
      const training = unitsPerSecond(sums) / unitsPerSecond(solo);
      const serving = figures.outputTokensPerSecond / capacity;
      const inTime = figures.goodput.share;
      const aloneInTime = alone.summary.figures().goodput.share;
      console.log(
        [
          `load ${load} ${kind === "both" ? "one engine" : "two processes"}`,
          `in time ${(100 * inTime).toFixed(1)}% (alone ${(100 * aloneInTime).toFixed(1)}%)`,
          `training ${training.toFixed(3)} of solo, ${(training / (1 - busy)).toFixed(2)} of the time left (serving alone uses ${busy.toFixed(2)})`,
          `serving ${serving.toFixed(3)}, sum ${(serving + training).toFixed(3)}`,
        ].join("; "),
      );
      if (kind !== "both") continue;
      if (serving + training < bars.sum) failed(`load ${load}: the sum is under ${bars.sum}`);
      if (load !== 0.5) continue;
      if (aloneInTime >= bars.goodput.alone && inTime < bars.goodput.beside)
        failed("too many requests were late");
      if (training < bars.training * (1 - busy)) failed("training had too little");
    }
  }
}

function failed(why: string): void {
  console.log(`FAILED: ${why}`);
  process.exitCode = 1;
}

/** What shares are made of: a unit is hundredths of a second where a step, which tokens are counted by, is seconds. */
function unitsPerSecond({ units, seconds: measured }: Sums): number {
  return units / measured;
}

async function counters(host: Host, trainer: Host): Promise<Counters> {
  const atSeconds = performance.now() / 1000;
  const [own, others] = await Promise.all([metricsOf(host), metricsOf(trainer)]);
  return {
    atSeconds,
    units: others.sum("cotenant_training_units_total")!,
    tokens: others.sum("cotenant_training_tokens_total")!,
    busySeconds: own.sum("cotenant_engine_step_seconds_total")!,
  };
}

async function metricsOf({ client }: Host): Promise<MetricsText> {
  return new MetricsText((await client.text({ method: "GET", path: "/metrics", key: null })).text);
}

function withHost(use: (host: Host) => Promise<void>): Promise<void> {
  return withEmbeddedServer(serverFlags, async (url) => {
    await using client = new HttpClient(url);
    const base = await baseModel(url);
    const models = { base, adapters: [], contextTokens: 2048 };
    await use({
      url,
      client,
      base,
      tokensPerWord: await calibrate(client, models, { key: null, endpoint: "completions" }),
    });
  });
}
