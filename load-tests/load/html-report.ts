// A run as one HTML file that opens offline: verdict on top, then plots, then tables.

import { latencyCurves, speedOverTime, waitsByAdapter, waitsOverTime } from "./charts.ts";
import { describeCheck } from "./check.ts";
import { isPassed, latencies, type Report, shown, whereFrom } from "./report.ts";
import type { Phase } from "./scenario.ts";
import type { Figures, GroupFigures } from "./summary.ts";

const mostRows = 50;

const style = `
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 0 1.5rem } th, td { padding: .15rem .7rem; text-align: right }
th { border-bottom: 1px solid #999; font-weight: 600 } td:first-child, th:first-child { text-align: left }
.verdict { display: inline-block; padding: .2rem .9rem; border-radius: .3rem; color: #fff; font-weight: 600 }
.pass { background: #2a7d3f } .fail { background: #b3261e } .plots { display: flex; flex-wrap: wrap; gap: 1.5rem }
ul { padding-left: 1.2rem } .failed { color: #b3261e; font-weight: 600 } code { font-size: .9em }
.where { color: #555; margin-top: -.8rem } .source td { text-align: left; vertical-align: top }
figure { margin: 0 } figcaption { font-weight: 600 } svg { max-width: 100%; height: auto }`;

export async function reportHtml(report: Report): Promise<string> {
  const { header, scenario, checks, failure, notes, phases, slo } = report;
  const passed = isPassed(report);
  const curves = phases.length === 0 ? "" : await latencyCurves(phases);
  const sections = await Promise.all(phases.map(phaseSection));
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${escaped(scenario)}: ${passed ? "passed" : "failed"}</title>
<style>${style}</style></head><body>
<h1>${escaped(scenario)} <span class="verdict ${passed ? "pass" : "fail"}">${passed ? "passed" : "failed"}</span></h1>
<p class="where">${escaped(whereFrom(header))}</p>
<ul>
${checks.map((check) => `<li${check.passed ? "" : ' class="failed"'}>${escaped(describeCheck(check))}</li>`).join("\n")}
${failure === null ? "" : `<li class="failed">${escaped(failure)}</li>`}
</ul>
<p>SLO: first token within ${shown(slo.ttftMs)} ms, then ${shown(slo.tpotMs)} ms per token.</p>
${notes.length === 0 ? "" : `<h2>Notes</h2><ul>${notes.map((note) => `<li>${escaped(note)}</li>`).join("")}</ul>`}
<h2>Phases</h2>
${groupTable(
  "phase",
  phases.map(({ name, figures }) => ({ ...figures, name })),
)}
<h2>Latencies</h2>
<p>The share of requests (or gaps) that took at most so long, after warm-up.</p>
${curves}
${sections.join("\n")}
<h2>Where this comes from</h2>
<table class="source">${Object.entries(header)
    .map(
      ([name, value]) => `<tr><td>${escaped(name)}</td><td><code>${escaped(String(value))}</code></td></tr>`,
    )
    .join("\n")}</table>
</body></html>
`;
}

async function phaseSection(phase: Phase): Promise<string> {
  const plots = await Promise.all([
    speedOverTime(phase),
    waitsOverTime(phase),
    ...(phase.adapters.length > 1 ? [waitsByAdapter(phase)] : []),
  ]);
  const captions = ["Speed", "Wait for the first token", "Wait by adapter"];
  const figures = plots.map(
    (svg, index) => `<figure><figcaption>${captions[index]}</figcaption>${svg}</figure>`,
  );
  const { client, tenants, adapters } = phase;
  const hidden = adapters.length - mostRows;
  return `<h2>${escaped(phase.name)}</h2>
<div class="plots">${figures.join("\n")}</div>
${latencyTable(phase.figures)}
${errorTable(phase.figures)}
${tenants.length > 1 ? groupTable("tenant", tenants) : ""}
${adapters.length > 1 ? groupTable("adapter", adapters.slice(0, mostRows)) : ""}
${hidden > 0 ? `<p>${hidden} more adapters with fewer requests are in the JSON file.</p>` : ""}
<p>Client: ${client.workers} processes, event-loop delay p99 ${shown(client.eventLoopDelayP99Ms)} ms, send lag p99
${shown(client.sendLagP99Ms)} ms, ${(100 * client.cpuShare).toFixed(0)}% of a core.
${client.bottleneck === null ? "" : `<span class="failed">It was a bottleneck: ${escaped(client.bottleneck)}.</span>`}
Load average at the end ${phase.loadAverage.toFixed(2)}.</p>`;
}

function latencyTable(figures: Figures): string {
  const rows = Object.entries(latencies).map(([label, of]) => {
    const { count, mean, p50, p90, p99, max } = of(figures);
    return [label, String(count), ...[mean, p50, p90, p99, max].map(shown)];
  });
  return table(["ms", "samples", "mean", "p50", "p90", "p99", "longest"], rows);
}

function errorTable({ errors }: Figures): string {
  const rows = Object.entries(errors).map(([code, count]) => [code, String(count)]);
  return rows.length === 0 ? "" : table(["error", "requests"], rows);
}

function groupTable(kind: string, groups: readonly GroupFigures[]): string {
  const names = [kind, "requests", "finished", "failed", "tokens/s", "goodput/s", "within SLO"];
  const timed = ["first token, ms: p50", "p99", "per token, ms: p50", "p99"];
  const rows = groups.map((group) => [
    group.name,
    String(group.requests),
    String(group.finished),
    String(Object.values(group.errors).reduce((sum, count) => sum + count, group.unfinished)),
    shown(group.outputTokensPerSecond),
    shown(group.goodput.requestsPerSecond),
    `${(100 * group.goodput.share).toFixed(1)}%`,
    ...[group.ttftMs.p50, group.ttftMs.p99, group.tpotMs.p50, group.tpotMs.p99].map(shown),
  ]);
  return table([...names, ...timed], rows);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: string, row: readonly string[]) =>
    `<tr>${row.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join("")}</tr>`;
  return `<table>${cells("th", head)}\n${rows.map((row) => cells("td", row)).join("\n")}</table>`;
}

/** Adapter names and error codes come from outside. */
function escaped(text: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replace(/[&<>"]/g, (character) => entities[character]!);
}
