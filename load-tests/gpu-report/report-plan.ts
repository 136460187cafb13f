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
};

/** At which the goals are stated. */
export const goal = { rows: 16, adapters: 16 } as const;

export function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)]!;
}
