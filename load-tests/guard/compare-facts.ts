// Measured facts beside the committed ones: less is better for all of them.

import { fixedTable } from "../fixed-table.ts";
import { type Facts, outsideFact } from "./facts.ts";

export type Comparison = {
  readonly text: string;
  readonly worse: readonly string[];
  readonly better: readonly string[];
};

/** How much a fact may be above its baseline: a share of time is never the same twice. */
const slacks: Record<string, number> = { [outsideFact]: 0.15 };

export function compareFacts(baseline: Facts, measured: Facts): Comparison {
  const names = [...new Set([...Object.keys(baseline), ...Object.keys(measured)])];
  const rows = names.map((name) => ({ name, verdict: verdictOf(name, baseline[name], measured[name]) }));
  const named = (wanted: Verdict) => rows.flatMap(({ name, verdict }) => (verdict === wanted ? [name] : []));
  const lines = rows.map(({ name, verdict }) => [
    name,
    String(baseline[name] ?? "-"),
    String(measured[name] ?? "-"),
    verdict,
  ]);
  return {
    text: fixedTable(["", "baseline", "now", ""], lines),
    worse: [...named("WORSE"), ...named("UNKNOWN")],
    better: named("better"),
  };
}

type Verdict = "" | "better" | "WORSE" | "UNKNOWN";

function verdictOf(name: string, before: number | undefined, now: number | undefined): Verdict {
  if (before === undefined || now === undefined) return "UNKNOWN";
  const slack = slacks[name];
  if (slack !== undefined) return now <= before + slack ? "" : "WORSE"; // NaN is worse, too
  if (now === before) return "";
  return now > before ? "WORSE" : "better";
}
