// A run as it is written: to a JSON file for programs, to the terminal for people.

import { type Check, describeCheck } from "./check.ts";
import type { RunHeader } from "./run-header.ts";
import type { Quantiles } from "./samples.ts";
import type { Phase } from "./scenario.ts";
import type { Figures, Slo } from "./summary.ts";

export type Report = {
  readonly header: RunHeader;
  readonly scenario: string;
  readonly slo: Slo;
  readonly checks: readonly Check[];
  readonly failure: string | null; // why the scenario did not come to its end
  readonly notes: readonly string[];
  readonly phases: readonly Phase[];
};

export function isPassed({ checks, failure }: Report): boolean {
  return failure === null && checks.every(({ passed }) => passed);
}

export function whereFrom({ machine, commit, loadAverage, startedAt }: RunHeader): string {
  return `${machine}; commit ${commit}; load average ${loadAverage.toFixed(2)}; ${startedAt}`;
}

/** Without the records, which are as many as the requests. */
export function reportJson(report: Report): string {
  const phases = report.phases.map(({ records: _, ...phase }) => phase);
  return `${JSON.stringify({ ...report, passed: isPassed(report), phases }, null, 2)}\n`;
}

export const latencies = {
  "time to first token": ({ ttftMs }) => ttftMs,
  "time per output token": ({ tpotMs }) => tpotMs,
  "gap between tokens": ({ gapMs }) => gapMs,
  "end to end": ({ endToEndMs }) => endToEndMs,
} as const satisfies Record<string, (figures: Figures) => Quantiles>;

/** A number of milliseconds, tokens or requests, or a dash where nothing was measured. */
export function shown(value: number): string {
  if (!Number.isFinite(value)) return "-";
  return Number(value.toPrecision(3)).toLocaleString("en", {
    maximumSignificantDigits: 3,
    useGrouping: false,
  });
}

export function reportText(report: Report): string {
  const { header, checks, failure, notes, phases } = report;
  const lines = [
    whereFrom(header),
    ...phases.flatMap(phaseLines),
    "",
    ...notes.map((note) => `note  ${note}`),
    ...checks.map(describeCheck),
    ...(failure === null ? [] : [`FAIL  ${failure}`]),
  ];
  return `${lines.join("\n")}\n`;
}

function phaseLines({ name, figures }: Phase): string[] {
  const { goodput } = figures;
  const errors = Object.entries(figures.errors).map(([code, count]) => `${count} x ${code}`);
  return [
    "",
    `${name}: ${figures.requests} requests, ${figures.finished} finished, ${figures.cancelled} cancelled${
      errors.length === 0 ? "" : `, failed: ${errors.join(", ")}`
    }`,
    `  ${shown(figures.outputTokensPerSecond)} tokens/s out, ${shown(figures.promptTokensPerSecond)} in, ` +
      `goodput ${shown(goodput.requestsPerSecond)} requests/s (${(100 * goodput.share).toFixed(1)}% within the SLO)`,
    ...Object.entries(latencies).map(([label, of]) => {
      const { p50, p90, p99 } = of(figures);
      return `  ${label.padEnd(22)} p50 ${shown(p50)}  p90 ${shown(p90)}  p99 ${shown(p99)} ms`;
    }),
  ];
}
