// What a report measures of a model: the full run, and a short one that shows on a software adapter that it works.

export type ReportPlan = {
  readonly rows: readonly number[];
  readonly adapters: readonly number[]; // different ones, at most as many as rows
  readonly rank: number; // on all projections
  readonly past: number; // tokens in each row before the first step
  readonly steps: number; // that are timed, after two that are not
  readonly prompt: number; // tokens of the prompt whose reading is timed
  readonly rounds: number; // of what is timed as a whole: the median counts
  readonly copiedBytes: number; // by which the device's bandwidth is measured
  readonly trained: readonly number[]; // lengths of the sequences of a training step
  readonly coServing: CoServingPlan;
};

/** Of requests that are alike, each by the next of as many adapters as there are rows. */
export type CoServingPlan = {
  readonly rows: number;
  readonly prompt: number; // tokens
  readonly output: number;
  readonly requestsPerClient: number; // of as many clients as rows, one after the other: the capacity
  readonly requests: number; // about, at half of that: as long is what is measured
  readonly rounds: number; // of training alone and beside requests
  readonly ttftMs: number; // targets of a request
  readonly tpotMs: number;
};

export const fullPlan: ReportPlan = {
  rows: [1, 4, 16, 64],
  adapters: [0, 1, 4, 16, 64],
  rank: 16,
  past: 128,
  steps: 32,
  prompt: 512,
  rounds: 5,
  copiedBytes: 256 * 2 ** 20,
  trained: [128, 128, 128, 128],
  coServing: {
    rows: 16,
    prompt: 96,
    output: 48,
    requestsPerClient: 16,
    requests: 200,
    rounds: 3,
    ttftMs: 2000,
    tpotMs: 200,
  },
};

export const smokePlan: ReportPlan = {
  rows: [2],
  adapters: [0, 2],
  rank: 4,
  past: 4,
  steps: 1,
  prompt: 4,
  rounds: 1,
  copiedBytes: 2 ** 20,
  trained: [8],
  coServing: {
    rows: 2,
    prompt: 4,
    output: 2,
    requestsPerClient: 1,
    requests: 3,
    rounds: 1,
    ttftMs: 60_000,
    tpotMs: 20_000,
  },
};

export function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)]!;
}
