import assert from "node:assert/strict";
import { test } from "node:test";
import { reportHtml } from "./html-report.ts";
import type { Report } from "./report.ts";
import { scenarios } from "./scenarios/index.ts";
import { type Rule, withSimulatedStage } from "./simulated-stage-fixture.ts";

const header = {
  startedAt: "2026-01-02T03:04:05.000Z",
  command: "npm run load -- --scenario steady",
  commit: "abc1234",
  machine: "EPYC, 2 cores, 24 GiB",
  loadAverage: 0.45,
  node: "v24",
  server: "one",
};

function pageOf(rule: Rule): Promise<string> {
  return withSimulatedStage(["--rate", "5"], rule, async (stage) => {
    const checks = await scenarios.steady.run(stage);
    const { slo } = stage.options;
    const report: Report = {
      ...{ header, scenario: "steady", slo, checks, failure: null, notes: ["<i>"], phases: stage.phases },
    };
    return reportHtml(report);
  });
}

test("the verdict and where it comes from stand before everything else", async () => {
  const page = await pageOf({});
  const [top] = page.slice(page.indexOf("<body>")).split("<h2>");
  assert.match(top!, />passed</);
  assert.match(top!, /EPYC, 2 cores, 24 GiB; commit abc1234; load average 0\.45; 2026-01-02/);
  assert.doesNotMatch(top!, /class="failed"/);
});

test("what failed is marked, and what comes from outside is text", async () => {
  const page = await pageOf({ answer: ({ number }) => (number < 3 ? { error: "500 <script>" } : {}) });
  assert.match(page, /<title>steady: failed<\/title>/);
  assert.match(page, /<li class="failed">FAIL {2}requests that failed or did not end: 3, at most 0/);
  assert.ok(page.includes("<td>500 &lt;script&gt;</td><td>3</td>"));
  assert.ok(page.includes("<li>&lt;i&gt;</li>"));
  assert.doesNotMatch(page, /<script|NaN/);
});

test("every plot draws what was measured", async () => {
  const page = await pageOf({});
  const plots = page.match(/<svg.*?<\/svg>/gs)!;
  assert.equal(plots.length, 4); // latencies; speed, waits over time, waits by adapter
  for (const [index, mark] of ["mark-line", "mark-area", "mark-symbol", "mark-rect"].entries()) {
    const paths =
      plots[index]!.split(mark)
        .slice(1)
        .join()
        .match(/<path[^>]* d="M[^"]{10,}"/g) ?? [];
    assert.ok(paths.length > 0, mark);
  }
});
