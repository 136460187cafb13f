// The results as one markdown table under a header that says where they come from.

import { type Row, type Run, type RunHeader, rowsOf } from "./results.ts";

export function markdown(run: Run, ours: string): string {
  const rows = rowsOf(run.results, ours);
  const names = [...new Set(rows.flatMap(({ speeds }) => [...speeds.keys()]))];
  const titles = ["shape", "bits", "what", ...names, `${ours} / best peer`, "goal", ""];
  const loads = run.results.map(({ loadAverage }) => loadAverage);
  const lagging = run.results.filter(({ clientBottleneck }) => clientBottleneck !== null).length;
  return `${[
    ...run.headers.map(headerLine),
    ...Object.entries(run.settings).map(([name, setting]) => `- ${name}: ${setting}`),
    `- load average while measuring: ${Math.min(...loads).toFixed(1)} to ${Math.max(...loads).toFixed(1)}`,
    ...(lagging === 0
      ? []
      : [`- the client was a bottleneck in ${lagging} of ${run.results.length} samples`]),
    "",
    "Tokens/s, medians of the rounds (how many in brackets): of all clients' answers from the first request to the last",
    "token; with one client, between tokens; of prefill, prompt tokens until the first token.",
    "",
    tableLine(titles),
    tableLine(titles.map(() => "---")),
    ...rows.map((row) => tableLine(cellsOf(row, names))),
  ].join("\n")}\n`;
}

function headerLine(header: RunHeader): string {
  const { startedAt, machine, commit, node, loadAverage, command, readBytesPerSecond } = header;
  const memory =
    readBytesPerSecond === undefined ? "" : `memory read at ${(readBytesPerSecond / 1e9).toFixed(1)} GB/s, `;
  return `- ${startedAt}: ${machine}; commit ${commit}; Node ${node}; ${memory}load average ${loadAverage.toFixed(1)} at the start; \`${command}\``;
}

function cellsOf({ shape, bits, cell, speeds, ratio, goal }: Row, names: readonly string[]): string[] {
  const verdict = goal === null || ratio === null ? "" : ratio >= goal ? "met" : "missed";
  return [
    shape,
    String(bits),
    cell.name,
    ...names.map((name) => {
      const measured = speeds.get(name);
      return measured === undefined ? "" : `${measured.speed.toFixed(1)} (${measured.rounds})`;
    }),
    ratio === null ? "" : ratio.toFixed(2),
    goal === null ? "" : `${goal}`,
    verdict,
  ];
}

function tableLine(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}
