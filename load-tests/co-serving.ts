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
import type { RequestRecord } from "./load/request-record.ts";
import { runHeader } from "./load/run-header.ts";
import { runWorkload } from "./load/run-workload.ts";
import { calibrate } from "./load/served-models.ts";
import { processorTime, stolenShare } from "./load/stolen-time.ts";
import { type Figures, Summary, type Window } from "./load/summary.ts";
import {
  secondsAtPaceOf,
  type UnitCounts,
  unitCounts,
  unitsBetween,
  unitsOfAll,
} from "./load/training-work.ts";

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
  --separate yes|no  also with the training in a second server, at each load (yes)
  --drift P          a round within which the machine's speed changes by more than P percent is measured again, twice at
                     most (10)`;

const names = ["model", "loads", "seconds", "rounds", "rows", "prompt", "output", "quantize"];
const commandLine = new CommandLine(usage, [...names, "ttft", "tpot", "separate", "drift"]);
const model = commandLine.string("model");
const seconds = commandLine.whole("seconds", 30);
const roundsEach = commandLine.whole("rounds", 2);
const rows = commandLine.whole("rows", 16);
const promptTokens = commandLine.whole("prompt", 96);
const outputTokens = commandLine.whole("output", 48);
const quantize = commandLine.string("quantize", "int4");
const slo = { ttftMs: commandLine.whole("ttft", 2000), tpotMs: commandLine.whole("tpot", 200) };
/** Before that, requests come and none goes: figures would be of fewer than the load has. */
const longestAnswerMs = outputTokens * slo.tpotMs;
const withSeparate = commandLine.string("separate", "yes") === "yes";
const drift = commandLine.whole("drift", 10) / 100;
const loads = commandLine
  .string("loads", "25,50,75,100")
  .split(",")
  .map((text) => Number(text) / 100);

/** Of each round on average, before it is given up that the machine becomes even. */
const attempts = 3;

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

type Counters = {
  readonly seconds: number;
  readonly tokens: number; // trained
  readonly busySeconds: number; // in steps of serving
  readonly units: UnitCounts; // of training
};

/** What was measured once. */
type Measured = {
  readonly spent: Counters;
  readonly records: readonly RequestRecord[];
  readonly window: Window;
  readonly stolen: number; // share of the time
};

/** What a load's rounds were, those that count. */
type Kind = "capacity" | "training alone" | "serving" | "both" | "apart";
type Round = Readonly<Partial<Record<Kind, readonly Measured[]>>>;

type Host = {
  readonly url: string;
  readonly client: HttpClient;
  readonly base: string;
  readonly tokensPerWord: number;
};

const rounds = new Map<number, Round[]>(loads.map((load) => [load, []]));

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
  const full = { kind: "closed", clients: rows } as const;
  await measure(host, "warm-up", full);
  await besideJob(host, () => measure(host, "warm-up", null)); // the first job's weights come from the disk
  const { requestsPerSecond } = figuresOf([await measure(host, "capacity", full)]);
  const alone = async () => ({
    capacity: await measure(host, "capacity", full),
    training: await besideJob(host, () => measure(host, "training alone", null)),
  });
  const turns = Array.from({ length: roundsEach }, (_, seed) => loads.map((load) => ({ load, seed }))).flat();
  let attemptsLeft = attempts * turns.length;
  let before = await alone();
  for (let turn = turns.shift(); turn !== undefined && attemptsLeft > 0; turn = turns.shift()) {
    attemptsLeft--;
    const { load, seed } = turn;
    const arrivals: Arrivals = { kind: "poisson", requestsPerSecond: load * requestsPerSecond };
    const serving = await measure(host, `serving ${load}`, arrivals, { seed });
    const both = await besideJob(host, () => measure(host, `both ${load}`, arrivals, { seed }));
    const apart =
      second === null
        ? []
        : [
            await besideJob(second, () =>
              measure(host, `apart ${load}`, arrivals, { seed, trainer: second }),
            ),
          ];
    const after = await alone();
    const round = {
      capacity: [before.capacity, after.capacity],
      "training alone": [before.training, after.training],
      serving: [serving],
      both: [both],
      apart,
    };
    const changed = changeWithin(round);
    if (changed <= drift) rounds.get(load)!.push(round);
    else {
      turns.push(turn);
      console.log(`load ${load}: the machine's speed changed by ${percent(changed)}; again later`);
    }
    before = after; // right before and right after what is compared with it
  }
}

/**
 * How much the machine's speed changed while a round was measured, told by what does not depend on the round's own
 * figures: what is alone before and after it, and how long other machines took a processor in each part.
 */
function changeWithin(round: Required<Round>): number {
  const capacities = round.capacity.map((one) => figuresOf([one]).outputTokensPerSecond);
  const solo = round["training alone"];
  const alone = solo.map((one) => trainedPerSecond([one], solo));
  const left = Object.values(round).flatMap((parts) => parts.map(({ stolen }) => 1 - stolen));
  return Math.max(
    ...[capacities, alone, left].map((values) => 1 - Math.min(...values) / Math.max(...values)),
  );
}

async function besideJob<Result>(host: Host, work: () => Promise<Result>): Promise<Result> {
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
    const result = await work();
    const status = await job.status();
    if (status !== "running")
      throw new Error(`the job was ${status}, not running, at the end of a measurement`);
    return result;
  } finally {
    await job.end();
  }
}

/**
 * @param arrivals null = nobody asks
 * @param options `trainer` is the server whose training counts
 */
async function measure(
  host: Host,
  name: string,
  arrivals: Arrivals | null,
  { seed = 0, trainer = host }: { readonly seed?: number; readonly trainer?: Host } = {},
): Promise<Measured> {
  const rampMs = arrivals === null ? 0 : longestAnswerMs;
  const window = { fromMs: rampMs, toMs: rampMs + seconds * 1000 };
  const counted = Promise.all(
    Object.values(window).map(async (ms) => {
      await delay(ms);
      return { counters: await counters(host, trainer), processors: processorTime() };
    }),
  );
  const records = arrivals === null ? [] : await recordsOf(host, { name, arrivals, seed, window });
  const [before, after] = (await counted) as [Counted, Counted];
  const spent = between(before.counters, after.counters);
  const stolen = stolenShare(before.processors, after.processors);
  const measured = { spent, records, window, stolen };
  const { outputTokensPerSecond, goodput, ttftMs, gapMs } = figuresOf([measured]);
  const count = [...spent.units.values()].reduce((sum, units) => sum + units.count, 0);
  console.log(
    `${name}: ${outputTokensPerSecond.toFixed(0)} tokens/s served, ${count} units trained, ${percent(goodput.share)} in time, ttft p99 ${ttftMs.p99.toFixed(0)}, gap p99 ${gapMs.p99.toFixed(0)} ms, ${percent(stolen)} held up by other machines`,
  );
  return measured;
}

type Counted = { readonly counters: Counters; readonly processors: ReturnType<typeof processorTime> };

type Asked = {
  readonly name: string;
  readonly arrivals: Arrivals;
  readonly seed: number;
  readonly window: Window;
};

async function recordsOf(host: Host, { name, arrivals, seed, window }: Asked): Promise<RequestRecord[]> {
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
  return [...records];
}

function figuresOf(measured: readonly Measured[]): Figures {
  const summary = new Summary(slo);
  for (const { records, window } of measured) summary.add(records, window);
  return summary.figures();
}

function report(): void {
  console.log();
  for (const [load, kept] of rounds) {
    const of = (kind: Kind) => kept.flatMap((round) => round[kind] ?? []);
    if (kept.length < roundsEach)
      failed(`load ${load}: ${kept.length} of ${roundsEach} rounds were even enough`);
    if (kept.length === 0) continue;
    const capacity = figuresOf(of("capacity")).outputTokensPerSecond;
    const solo = of("training alone");
    console.log(
      `load ${load}, ${kept.length} rounds: serving alone ${capacity.toFixed(0)} tokens/s, training alone ${perSecond(solo, "tokens").toFixed(0)} tokens/s`,
    );
    const aloneInTime = figuresOf(of("serving")).goodput.share;
    const busy = perSecond(of("serving"), "busySeconds");
    for (const kind of withSeparate ? (["both", "apart"] as const) : (["both"] as const)) {
      const figures = figuresOf(of(kind));
      const training = trainedPerSecond(of(kind), solo) / trainedPerSecond(solo, solo);
      const serving = figures.outputTokensPerSecond / capacity;
      const inTime = figures.goodput.share;
      console.log(
        [
          `load ${load} ${kind === "both" ? "one engine" : "two processes"}`,
          `in time ${percent(inTime)} (alone ${percent(aloneInTime)})`,
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

function between(before: Counters, after: Counters): Counters {
  return {
    seconds: after.seconds - before.seconds,
    tokens: after.tokens - before.tokens,
    busySeconds: after.busySeconds - before.busySeconds,
    units: unitsBetween(before.units, after.units),
  };
}

function perSecond(measured: readonly Measured[], of: "tokens" | "busySeconds"): number {
  return total(measured, of) / total(measured, "seconds");
}

function total(measured: readonly Measured[], of: Exclude<keyof Counters, "units">): number {
  return measured.reduce((sum, { spent }) => sum + spent[of], 0);
}

/** Seconds of work in a second, as long as it took alone. */
function trainedPerSecond(measured: readonly Measured[], alone: readonly Measured[]): number {
  const unitsOf = (all: readonly Measured[]) => unitsOfAll(all.map(({ spent }) => spent.units));
  return secondsAtPaceOf(unitsOf(measured), unitsOf(alone)) / total(measured, "seconds");
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}

async function counters(host: Host, trainer: Host): Promise<Counters> {
  const seconds = performance.now() / 1000;
  const [own, others] = await Promise.all([metricsOf(host), metricsOf(trainer)]);
  return {
    seconds,
    tokens: others.sum("cotenant_training_tokens_total")!,
    busySeconds: own.sum("cotenant_engine_step_seconds_total")!,
    units: unitCounts(others),
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
