// npm run co-serving -- --model DIR: what finetuning and serving get beside each other, and what each gets alone, in one
// run. Over HTTP, on servers of this checkout that take turns of half a second. Shown beside it: the same training in a
// second server, which shares the processor by the operating system's scheduler.

import { loadavg } from "node:os";
import { CommandLine } from "../scripts/command-line.ts";
import type { Measured } from "./co-serving/measured-host.ts";
import { measureInTurns } from "./co-serving/servers-in-turns.ts";
import { figuresOf, type Round, type Shares, sharesOf, trainedTokensPerSecond } from "./co-serving/shares.ts";
import { commandOf, machineHeader } from "./load/run-header.ts";
import { processorTime, stolenShare } from "./load/stolen-time.ts";

const usage = `npm run co-serving -- --model DIR [flags]

  --model DIR        checkpoint of the base
  --loads LIST       of the serving capacity, in percent (25,50,75,100)
  --seconds N        of each measurement, from when answers end as fast as they begin (60)
  --rows N           --max-rows of the servers (16)
  --prompt N         tokens of a prompt (96)
  --output N         tokens of an answer (48)
  --quantize Q       int4, int8, f16 or none (int4)
  --ttft N, --tpot N targets in ms (2000, 200)
  --separate yes|no  also with the training in a second server, at each load (yes)

Every measurement has servers of its own, which are stopped while others have their turns: 14 for four loads, or 10
without --separate, of about 1 GB each for 135M parameters.`;

const names = ["model", "loads", "seconds", "rows", "prompt", "output", "quantize", "ttft", "tpot"];
const commandLine = new CommandLine(usage, [...names, "separate"]);
const slo = { ttftMs: commandLine.whole("ttft", 2000), tpotMs: commandLine.whole("tpot", 200) };
const setting = {
  model: commandLine.string("model"),
  rows: commandLine.whole("rows", 16),
  quantize: commandLine.oneOf("quantize", ["int4", "int8", "f16", "none"]),
  promptTokens: commandLine.whole("prompt", 96),
  outputTokens: commandLine.whole("output", 48),
  slo,
};
const seconds = commandLine.whole("seconds", 60);
const withApart = commandLine.string("separate", "yes") === "yes";
const loads = commandLine
  .string("loads", "25,50,75,100")
  .split(",")
  .map((text) => Number(text) / 100);

/** The bars of the product's promise. */
const bars = { goodput: { alone: 0.995, beside: 0.99 }, training: 0.8, sum: 0.92 };

console.log(JSON.stringify({ ...machineHeader(), command: commandOf(process.argv.slice(2)) }));
const before = processorTime();
const rounds = await measureInTurns({ setting, loads, seconds, withApart, tell: console.log });
const heldUp = stolenShare(before, processorTime());
const [{ capacity, solo }] = [...rounds.values()] as [Round];
console.log(`serving alone: ${figured(capacity)}`);
console.log(`training alone, ${trainedTokensPerSecond(solo).toFixed(0)} tokens/s: ${figured(solo)}`);
for (const [load, round] of rounds) reportLoad(load, round);
console.log();
console.log(
  `load average ${loadavg()[0]!.toFixed(1)}, ${percent(heldUp)} held up by other machines (in no figure)`,
);

function reportLoad(load: number, round: Round): void {
  console.log();
  console.log(`load ${load} served alone: ${figured(round.serving)}`);
  console.log(`load ${load} beside training: ${figured(round.both)}`);
  if (round.apart !== null) console.log(`load ${load}, two processes: ${figured(round.apart)}`);
  const shares = sharesOf(round, round.both, slo);
  console.log(described(`load ${load}, one engine`, shares));
  if (round.apart !== null)
    console.log(described(`load ${load}, two processes`, sharesOf(round, round.apart, slo)));
  const { serving, training, busy, inTime, inTimeAlone } = shares;
  if (serving + training < bars.sum) failed(`load ${load}: the sum is under ${bars.sum}`);
  if (load !== 0.5) return;
  if (inTimeAlone >= bars.goodput.alone && inTime < bars.goodput.beside)
    failed("too many requests were late");
  if (training < bars.training * (1 - busy)) failed("training had too little");
}

function figured(measured: Measured): string {
  const { outputTokensPerSecond, goodput, ttftMs, tpotMs, gapMs } = figuresOf(measured, slo);
  const { spent, records } = measured;
  const unitSeconds = [...spent.units.values()].reduce((sum, unit) => sum + unit.seconds, 0);
  const served = [
    `${outputTokensPerSecond.toFixed(0)} tokens/s served`,
    `${percent(goodput.share)} in time`,
    `p99 of ttft ${ttftMs.p99.toFixed(0)}, tpot ${tpotMs.p99.toFixed(0)}, gaps ${gapMs.p99.toFixed(0)} ms`,
  ];
  const steps = percent(spent.busySeconds / spent.seconds);
  const units = percent(unitSeconds / spent.seconds);
  const spending = `${steps} of the time in steps of serving, ${units} in units of training`;
  return [...(records.length === 0 ? [] : served), spending].join(", ");
}

function described(what: string, shares: Shares): string {
  const { serving, training, busy, inTime, inTimeAlone } = shares;
  return [
    `${what}: in time ${percent(inTime)} (alone ${percent(inTimeAlone)})`,
    `training ${training.toFixed(3)} of solo, ${(training / (1 - busy)).toFixed(2)} of the time left (serving alone uses ${busy.toFixed(2)})`,
    `serving ${serving.toFixed(3)}, sum ${(serving + training).toFixed(3)}`,
  ].join("; ");
}

function failed(why: string): void {
  console.log(`FAILED: ${why}`);
  process.exitCode = 1;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}
