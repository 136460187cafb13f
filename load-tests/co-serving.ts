// npm run co-serving -- --model DIR: what finetuning and serving get beside each other, and what each gets alone, in one
// run. Over HTTP, on servers of this checkout; the settings take turns. Shown beside it: the same training in a second
// server, which shares the processor by the operating system's scheduler. Or, with --sliced yes, on engines that take turns.

import { loadavg } from "node:os";
import { CommandLine } from "../scripts/command-line.ts";
import { type Measured, type MeasuredHost, withHost } from "./co-serving/measured-host.ts";
import {
  changeWithin,
  figuresOf,
  type Round,
  type Shares,
  servedPerSecond,
  serviceOf,
  sharesOf,
  trainedTokensPerSecond,
} from "./co-serving/shares.ts";
import { measureSliced } from "./co-serving/sliced-engines.ts";
import type { Arrivals } from "./load/arrivals.ts";
import { commandOf, machineHeader, runHeader } from "./load/run-header.ts";
import { processorTime, stolenShare } from "./load/stolen-time.ts";

const usage = `npm run co-serving -- --model DIR [flags]

  --model DIR        checkpoint of the base
  --loads LIST       of the serving capacity, in percent (25,50,75,100)
  --seconds N        of each measurement, from when answers end as fast as they begin (30)
  --rounds N         (2)
  --rows N           --max-rows of the server (16)
  --prompt N         tokens of a prompt (96)
  --output N         tokens of an answer (48)
  --quantize Q       int4, int8, f16 or none (int4)
  --ttft N, --tpot N targets in ms (2000, 200)
  --sliced yes|no    instead, engines of one process that take turns of half a second, each on a clock of its own, without
                     HTTP: for a machine that others slow down; --rounds, --separate and what follows are not for it (no)
  --separate yes|no  also with the training in a second server, at each load (yes)
  --drift P          a round within which the machine's speed changes by more than P percent is measured again (10)
  --stolen P         so is at once what other machines held up for more than P percent of its time (10)
  --minutes N        after which nothing is measured again (60)`;

const names = ["model", "loads", "seconds", "rounds", "rows", "prompt", "output", "quantize"];
const ofServers = ["separate", "drift", "stolen", "minutes"];
const commandLine = new CommandLine(usage, [...names, "ttft", "tpot", "sliced", ...ofServers]);
const model = commandLine.string("model");
const rows = commandLine.whole("rows", 16);
const quantize = commandLine.oneOf("quantize", ["int4", "int8", "f16", "none"]);
const slo = { ttftMs: commandLine.whole("ttft", 2000), tpotMs: commandLine.whole("tpot", 200) };
const setting = {
  model,
  rows,
  quantize,
  promptTokens: commandLine.whole("prompt", 96),
  outputTokens: commandLine.whole("output", 48),
  slo,
  seconds: commandLine.whole("seconds", 30),
};
const isSliced = commandLine.string("sliced", "no") === "yes";
const roundsEach = isSliced ? 1 : commandLine.whole("rounds", 2);
const withSeparate = !isSliced && commandLine.string("separate", "yes") === "yes";
const kinds = withSeparate ? (["both", "apart"] as const) : (["both"] as const);
const drift = commandLine.whole("drift", 10) / 100;
const stolen = commandLine.whole("stolen", 10) / 100;
const untilMs = performance.now() + commandLine.whole("minutes", 60) * 60_000;
const loads = commandLine
  .string("loads", "25,50,75,100")
  .split(",")
  .map((text) => Number(text) / 100);

/** The bars of the product's promise. */
const bars = { goodput: { alone: 0.995, beside: 0.99 }, training: 0.8, sum: 0.92 };

const rounds = new Map<number, Round[]>(loads.map((load) => [load, []]));

if (isSliced) await measureSlices();
else {
  await withHost(setting, async (host) => {
    console.log(JSON.stringify(await runHeader(process.argv.slice(2), host.client)));
    if (!withSeparate) return measureAll(host, null);
    await withHost(setting, (second) => measureAll(host, second));
  });
}
report();
console.log(`load average ${loadavg()[0]!.toFixed(1)}`);

async function measureSlices(): Promise<void> {
  console.log(JSON.stringify({ ...machineHeader(), command: commandOf(process.argv.slice(2)) }));
  const before = processorTime();
  for (const [load, round] of await measureSliced(setting, loads)) {
    rounds.get(load)!.push(round);
    for (const part of ["serving", "both"] as const)
      console.log(`${part} ${load}: ${figured(round[part][0]!)}`);
  }
  console.log(heldUp(stolenShare(before, processorTime())));
}

async function measureAll(host: MeasuredHost, second: MeasuredHost | null): Promise<void> {
  const full = { kind: "closed", clients: rows } as const;
  const capacity = () => undisturbed("capacity", () => host.measure(full));
  const solo = () => host.besideJob(() => undisturbed("training alone", () => host.measure(null)));
  await told("warm-up", host.measure(full));
  await solo(); // the first job's weights come from the disk
  const alone = async () => ({ capacity: await capacity(), solo: await solo() });
  const turns = Array.from({ length: roundsEach }, (_, seed) => loads.map((load) => ({ load, seed }))).flat();
  let before = await alone();
  for (let turn = turns.shift(); turn !== undefined; turn = turns.shift()) {
    const { load, seed } = turn;
    const service = serviceOf({ prompt: setting.promptTokens, output: setting.outputTokens });
    const requestsPerSecond = (load * servedPerSecond([before.capacity], slo)) / service;
    const arrivals: Arrivals = { kind: "poisson", requestsPerSecond };
    const measure = (name: string, trainer: MeasuredHost) =>
      undisturbed(`${name} ${load}`, () => host.measure(arrivals, { seed, trainer }));
    const serving = await measure("serving", host);
    const both = await host.besideJob(() => measure("both", host));
    const apart = second === null ? [] : [await second.besideJob(() => measure("apart", second))];
    const after = await alone(); // right before and right after what is compared with it
    const round = {
      capacity: [before.capacity, after.capacity],
      solo: [before.solo, after.solo],
      serving: [serving],
      both: [both],
      apart,
    };
    const change = changeWithin(round, slo);
    if (change <= drift) {
      rounds.get(load)!.push(round);
      for (const kind of kinds) console.log(described(load, kind, sharesOf([round], kind, slo)));
    } else {
      if (!outOfTime()) turns.push(turn);
      console.log(`load ${load}: the machine's speed changed by ${percent(change)}; not counted`);
    }
    before = after;
  }
}

async function undisturbed(name: string, measure: () => Promise<Measured>): Promise<Measured> {
  for (;;) {
    const measured = await told(name, measure());
    if (measured.stolen <= stolen || outOfTime()) return measured;
  }
}

function outOfTime(): boolean {
  return performance.now() > untilMs;
}

async function told(name: string, measuring: Promise<Measured>): Promise<Measured> {
  const measured = await measuring;
  console.log(`${name}: ${figured(measured)}, ${heldUp(measured.stolen)}`);
  return measured;
}

function figured(measured: Measured): string {
  const { outputTokensPerSecond, goodput, ttftMs, tpotMs, gapMs } = figuresOf([measured], slo);
  const { seconds, busySeconds, units } = measured.spent;
  const unitSeconds = [...units.values()].reduce((sum, unit) => sum + unit.seconds, 0);
  return [
    `${outputTokensPerSecond.toFixed(0)} tokens/s served`,
    `${percent(goodput.share)} in time`,
    `p99 of ttft ${ttftMs.p99.toFixed(0)}, tpot ${tpotMs.p99.toFixed(0)}, gaps ${gapMs.p99.toFixed(0)} ms`,
    `${percent(busySeconds / seconds)} of the time in steps of serving, ${percent(unitSeconds / seconds)} in units of training`,
  ].join(", ");
}

function heldUp(share: number): string {
  return `${percent(share)} held up by other machines`;
}

function described(load: number, kind: "both" | "apart", shares: Shares): string {
  const { serving, training, busy, inTime, inTimeAlone } = shares;
  return [
    `load ${load} ${kind === "both" ? "one engine" : "two processes"}`,
    `in time ${percent(inTime)} (alone ${percent(inTimeAlone)})`,
    `training ${training.toFixed(3)} of solo, ${(training / (1 - busy)).toFixed(2)} of the time left (serving alone uses ${busy.toFixed(2)})`,
    `serving ${serving.toFixed(3)}, sum ${(serving + training).toFixed(3)}`,
  ].join("; ");
}

function report(): void {
  for (const [load, kept] of rounds) {
    console.log();
    if (kept.length < roundsEach)
      failed(`load ${load}: ${kept.length} of ${roundsEach} rounds were even enough`);
    if (kept.length === 0) continue;
    const all = (part: "capacity" | "solo") => kept.flatMap((round) => round[part]);
    const served = figuresOf(all("capacity"), slo).outputTokensPerSecond.toFixed(0);
    const trained = trainedTokensPerSecond(all("solo")).toFixed(0);
    console.log(
      `load ${load}, ${kept.length} rounds: serving alone ${served} tokens/s, training alone ${trained} tokens/s`,
    );
    for (const kind of kinds) console.log(described(load, kind, sharesOf(kept, kind, slo)));
    const { serving, training, busy, inTime, inTimeAlone } = sharesOf(kept, "both", slo);
    if (serving + training < bars.sum) failed(`load ${load}: the sum is under ${bars.sum}`);
    if (load !== 0.5) continue;
    if (inTimeAlone >= bars.goodput.alone && inTime < bars.goodput.beside)
      failed("too many requests were late");
    if (training < bars.training * (1 - busy)) failed("training had too little");
  }
}

function failed(why: string): void {
  console.log(`FAILED: ${why}`);
  process.exitCode = 1;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}
