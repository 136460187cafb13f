// A profile as text that fits a terminal.

import { fixedTable } from "../fixed-table.ts";
import type { EngineProfile } from "./engine-profile.ts";
import type { OperatorTime, SessionProfile } from "./operator-times.ts";

/** What is less than this part of the whole is added up in the last line. */
const smallShare = 0.005;

export function sessionReport(profile: SessionProfile, layers: number): string {
  const { nodesPerRun, runsPerStep, msPerStep, kernelMsPerStep } = profile;
  const perLayer = (nodes: number) => (nodes / layers).toFixed(1);
  const runs = runsPerStep === 1 ? "one run" : `${runsPerStep.toFixed(2)} runs`;
  const rows = (times: readonly OperatorTime[]) =>
    times.map(({ operator, output, nodesPerRun: nodes, msPerStep: ms }) => ({
      cells: [`${operator} ${output}`.trim(), nodes.toFixed(nodes % 1 === 0 ? 0 : 1), perLayer(nodes)],
      ms,
    }));
  return [
    `Session, with the runtime's profiler: ${msPerStep.toFixed(2)} ms a step in ${runs}, of which kernels ${kernelMsPerStep.toFixed(2)} ms`,
    `${Math.round(nodesPerRun)} nodes a run, ${perLayer(nodesPerRun)} a layer (${layers} layers)`,
    "",
    timeTable(["operator", "nodes", "a layer"], rows(profile.operators), kernelMsPerStep),
    timeTable(["operator and what it makes", "nodes", "a layer"], rows(profile.byShape), kernelMsPerStep),
  ].join("\n");
}

export function engineReport({ msPerStep, outsideShare, runtimeMsPerStep, places }: EngineProfile): string {
  const around = places.reduce((sum, { ms }) => sum + ms, 0);
  const rows = places.map(({ place, ms }) => ({ cells: [place], ms }));
  return [
    `Engine, with V8's profiler: ${msPerStep.toFixed(2)} ms a step; its thread was ${runtimeMsPerStep.toFixed(2)} ms in the runtime and ${around.toFixed(2)} ms in what follows`,
    `${(outsideShare * 100).toFixed(1)}% of a step outside the session's run, by the engine's own clocks`,
    "",
    timeTable(["around the run"], rows, msPerStep),
  ].join("\n");
}

type TimeRow = { readonly cells: readonly string[]; readonly ms: number };

function timeTable(titles: readonly string[], rows: readonly TimeRow[], wholeMs: number): string {
  const shown = rows.filter(({ ms }) => ms >= smallShare * wholeMs);
  const hidden = rows.filter((row) => !shown.includes(row));
  const line = ({ cells, ms }: TimeRow) => [...cells, ms.toFixed(3), `${((100 * ms) / wholeMs).toFixed(1)}%`];
  const rest = {
    cells: [`${hidden.length} more`, ...titles.slice(1).map(() => "")],
    ms: hidden.reduce((sum, { ms }) => sum + ms, 0),
  };
  return fixedTable([...titles, "ms", "share"], [...shown, ...(hidden.length === 0 ? [] : [rest])].map(line));
}
