// What a run measured, as it is written to JSON, and what follows from it: medians, ratios, verdicts. Runs can be joined.

import type { Cell } from "./cells.ts";
import type { Bits } from "./contestant.ts";
import { goalOf } from "./goals.ts";
import type { Sample } from "./measure.ts";
import { median } from "./median.ts";

export type Result = Sample & {
  readonly shape: string;
  readonly bits: Bits;
  readonly cell: Cell;
  readonly contestant: string;
  readonly round: number;
};

export type RunHeader = {
  readonly startedAt: string; // ISO 8601
  readonly command: string;
  readonly commit: string; // of the measured tree
  readonly machine: string;
  readonly loadAverage: number; // over the last minute, at the start
  readonly node: string;
  readonly readBytesPerSecond?: number; // of memory, at the start, on all threads; former runs did not measure it
};

export type Run = {
  readonly headers: readonly RunHeader[]; // one, or several of joined runs
  readonly settings: Readonly<Record<string, string>>; // by contestant
  readonly results: readonly Result[];
};

export function joined(runs: readonly Run[]): Run {
  return {
    headers: runs.flatMap(({ headers }) => headers),
    settings: Object.assign({}, ...runs.map(({ settings }) => settings)),
    results: runs.flatMap(({ results }) => results),
  };
}

export type Row = {
  readonly shape: string;
  readonly bits: Bits;
  readonly cell: Cell;
  /** Medians over the rounds in tokens/s, by contestant; how many there were. */
  readonly speeds: ReadonlyMap<string, { readonly speed: number; readonly rounds: number }>;
  readonly ratio: number | null; // ours to the best peer; null where one of them was not measured
  readonly goal: number | null;
};

/** One row for each shape, precision and cell, in the order in which they were first measured. */
export function rowsOf(results: readonly Result[], ours: string): Row[] {
  const keyOf = ({ shape, bits, cell }: Result) => `${shape} ${bits} ${cell.name}`;
  return [...Map.groupBy(results, keyOf).values()].map((group): Row => {
    const { shape, bits, cell } = group[0]!;
    const speeds = new Map(
      [...Map.groupBy(group, ({ contestant }) => contestant)].map(([contestant, samples]) => {
        const speed = median(samples.map(({ figures }) => figures[cell.figure]));
        return [contestant, { speed, rounds: samples.length }];
      }),
    );
    const own = speeds.get(ours)?.speed;
    const peers = [...speeds].filter(([name]) => name !== ours).map(([, { speed }]) => speed);
    const ratio = own === undefined || peers.length === 0 ? null : own / Math.max(...peers);
    return { shape, bits, cell, speeds, ratio, goal: goalOf(cell) };
  });
}
