// What serving and training got beside each other, as shares of what each gets alone.

import { tokenPrices } from "../../scheduler/scheduling-policy.ts";
import { type Figures, type Slo, Summary } from "../load/summary.ts";
import { secondsAtPaceOf } from "../load/training-work.ts";
import type { Measured } from "./measured-host.ts";

/** One load, with what is alone in the same minutes. */
export type Round = {
  readonly capacity: Measured; // serving alone, every row taken
  readonly solo: Measured; // training alone
  readonly serving: Measured; // the load alone
  readonly both: Measured; // in one engine
  readonly apart: Measured | null; // in two processes, where that is measured
};

export type Shares = {
  readonly serving: number; // of its throughput alone, as is the next
  readonly training: number;
  readonly busy: number; // share of the time that serving alone uses
  readonly inTime: number; // share of the requests, as is the next
  readonly inTimeAlone: number;
};

export function sharesOf({ capacity, solo, serving }: Round, beside: Measured, slo: Slo): Shares {
  return {
    serving: servedPerSecond(beside, slo) / servedPerSecond(capacity, slo),
    training: trainedPerSecond(beside, solo) / trainedPerSecond(solo, solo),
    busy: serving.spent.busySeconds / serving.spent.seconds,
    inTime: figuresOf(beside, slo).goodput.share,
    inTimeAlone: figuresOf(serving, slo).goodput.share,
  };
}

export function figuresOf({ records, window }: Measured, slo: Slo): Figures {
  const summary = new Summary(slo);
  summary.add(records, window);
  return summary.figures();
}

/**
 * Tokens of prompts and answers by what the engine charges for them, which is near what they take: a window whose requests
 * have their prompts in it and their answers behind it has served as well.
 */
export function servedPerSecond(measured: Measured, slo: Slo): number {
  const { promptTokensPerSecond, outputTokensPerSecond } = figuresOf(measured, slo);
  return serviceOf({ prompt: promptTokensPerSecond, output: outputTokensPerSecond });
}

export function serviceOf({ prompt, output }: { readonly prompt: number; readonly output: number }): number {
  return tokenPrices.input * prompt + tokenPrices.output * output;
}

export function trainedTokensPerSecond({ spent }: Measured): number {
  return spent.tokens / spent.seconds;
}

/** Seconds of work in a second, as long as it takes alone. */
function trainedPerSecond({ spent }: Measured, solo: Measured): number {
  return secondsAtPaceOf(spent.units, solo.spent.units) / spent.seconds;
}
