// What serving and training got beside each other, as shares of what each gets alone. Rates are of the time that the
// machine had: what other machines took of it, a few percent of a measurement that counts, is no time of ours.

import { tokenPrices } from "../../scheduler/scheduling-policy.ts";
import { type Figures, type Slo, Summary } from "../load/summary.ts";
import { secondsAtPaceOf, unitsOfAll } from "../load/training-work.ts";
import type { Measured } from "./measured-host.ts";

/** One load, with what is alone right before and right after it. */
export type Round = {
  readonly capacity: readonly Measured[]; // serving alone, every row taken
  readonly solo: readonly Measured[]; // training alone
  readonly serving: readonly Measured[]; // the load alone
  readonly both: readonly Measured[]; // in one engine
  readonly apart: readonly Measured[]; // in two processes; empty where that is not measured
};

export type Shares = {
  readonly serving: number; // of its throughput alone, as is the next
  readonly training: number;
  readonly busy: number; // share of the time that serving alone uses
  readonly inTime: number; // share of the requests, as is the next
  readonly inTimeAlone: number;
};

export function sharesOf(rounds: readonly Round[], kind: "both" | "apart", slo: Slo): Shares {
  const of = (part: keyof Round) => rounds.flatMap((round) => round[part]);
  const solo = of("solo");
  return {
    serving: servedPerSecond(of(kind), slo) / servedPerSecond(of("capacity"), slo),
    training: trainedPerSecond(of(kind), solo) / trainedPerSecond(solo, solo),
    busy: total(of("serving"), "busySeconds") / total(of("serving"), "seconds"),
    inTime: figuresOf(of(kind), slo).goodput.share,
    inTimeAlone: figuresOf(of("serving"), slo).goodput.share,
  };
}

/**
 * By how much the machine's speed changed during a round, as a share, told by what does not depend on how the round
 * went: what is alone before and after it.
 */
export function changeWithin({ capacity, solo }: Round, slo: Slo): number {
  const speeds = [
    capacity.map((one) => servedPerSecond([one], slo)),
    solo.map((one) => trainedPerSecond([one], solo)),
  ];
  return Math.max(...speeds.map((values) => 1 - Math.min(...values) / Math.max(...values)));
}

export function figuresOf(measured: readonly Measured[], slo: Slo): Figures {
  const summary = new Summary(slo);
  for (const { records, window } of measured) summary.add(records, window);
  return summary.figures();
}

/**
 * Tokens of prompts and answers by what the engine charges for them, which is near what they take: a window whose requests
 * have their prompts in it and their answers behind it has served as well.
 */
export function servedPerSecond(measured: readonly Measured[], slo: Slo): number {
  const wall = total(measured, "seconds") / hadSeconds(measured);
  const { promptTokensPerSecond, outputTokensPerSecond } = figuresOf(measured, slo);
  return serviceOf({ prompt: promptTokensPerSecond, output: outputTokensPerSecond }) * wall;
}

export function serviceOf({ prompt, output }: { readonly prompt: number; readonly output: number }): number {
  return tokenPrices.input * prompt + tokenPrices.output * output;
}

export function trainedTokensPerSecond(measured: readonly Measured[]): number {
  return total(measured, "tokens") / hadSeconds(measured);
}

/** Seconds of work in a second, as long as it takes alone. */
function trainedPerSecond(measured: readonly Measured[], solo: readonly Measured[]): number {
  const unitsOf = (all: readonly Measured[]) => unitsOfAll(all.map(({ spent }) => spent.units));
  return secondsAtPaceOf(unitsOf(measured), unitsOf(solo)) / hadSeconds(measured);
}

function total(measured: readonly Measured[], of: "tokens" | "busySeconds" | "seconds"): number {
  return measured.reduce((sum, { spent }) => sum + spent[of], 0);
}

function hadSeconds(measured: readonly Measured[]): number {
  return measured.reduce((sum, { spent, stolen }) => sum + spent.seconds * (1 - stolen), 0);
}
