// Plots of a run as SVG text, drawn without a browser. The only file that imports vega and vega-lite.

import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { type RequestRecord, timePerOutputTokenMs, timeToFirstTokenMs } from "./request-record.ts";
import { Samples } from "./samples.ts";
import type { Phase } from "./scenario.ts";

type Row = Readonly<Record<string, string | number>>;

const height = 220;
const shares = Array.from({ length: 101 }, (_, index) => index / 100);
const mostPoints = 2000;
const mostBins = 120;
const leastBinMs = 250;
const mostAdapters = 30;

/** For each latency, which share of the requests stayed under which time: one curve per phase. */
export function latencyCurves(phases: readonly Phase[]): Promise<string> {
  const metrics: Record<string, (record: RequestRecord) => Iterable<number>> = {
    "time to first token": (record) => present(timeToFirstTokenMs(record)),
    "time per output token": (record) => present(timePerOutputTokenMs(record)),
    "gap between tokens": ({ chunkMs }) => chunkMs.slice(1).map((ms, index) => ms - chunkMs[index]!),
    "end to end": ({ outcome, endedMs, dueMs }) => present(outcome === "finished" ? endedMs - dueMs : null),
  };
  const rows = Object.entries(metrics).flatMap(([metric, valuesOf]) =>
    phases.flatMap(({ name, records, window }) => {
      const samples = new Samples();
      for (const record of records) {
        if (record.dueMs < window.fromMs) continue;
        for (const ms of valuesOf(record)) samples.add(Math.max(0.1, ms)); // the scale is logarithmic
      }
      if (samples.count === 0) return [];
      return shares.map((share) => ({ metric, phase: name, share, ms: samples.quantile(share) }));
    }),
  );
  return draw({
    data: { values: rows },
    mark: { type: "line", interpolate: "step-after" },
    width: 480,
    height,
    encoding: {
      facet: { field: "metric", columns: 2, title: null, sort: Object.keys(metrics) },
      x: { field: "ms", type: "quantitative", scale: { type: "log" }, title: "ms" },
      y: { field: "share", type: "quantitative", axis: { format: "%" }, title: "requests within" },
      color: {
        field: "phase",
        type: "nominal",
        scale: { domain: phases.map(({ name }) => name) },
        title: null,
        legend: { orient: "bottom", labelLimit: 300 },
      },
    },
    resolve: { scale: { x: "independent" } },
  });
}

/** Pieces of text that arrived per second, stacked by tenant. */
export function speedOverTime({ records, window }: Phase): Promise<string> {
  const binMs = Math.max(leastBinMs, window.toMs / mostBins);
  const bins = new Map<string, number[]>();
  for (const { tenant, chunkMs } of records) {
    const counts = bins.get(tenant) ?? [];
    bins.set(tenant, counts);
    for (const ms of chunkMs) {
      const bin = Math.floor(ms / binMs);
      counts[bin] = (counts[bin] ?? 0) + 1;
    }
  }
  const last = Math.max(0, ...[...bins.values()].map((counts) => counts.length));
  const rows = [...bins].flatMap(([tenant, counts]) =>
    Array.from({ length: last }, (_, bin) => ({
      tenant,
      second: (bin * binMs) / 1000,
      speed: ((counts[bin] ?? 0) * 1000) / binMs,
    })),
  );
  return overTime(rows, {
    mark: { type: "area", interpolate: "step-after" },
    y: { field: "speed", type: "quantitative", stack: "zero", title: "tokens/s" },
  });
}

/** The wait of each request for its first token, at the time at which it was due. */
export function waitsOverTime({ records }: Phase): Promise<string> {
  const every = Math.ceil(records.length / mostPoints);
  const rows = records.flatMap((record, index) => {
    const ms = timeToFirstTokenMs(record);
    if (ms === null || index % every !== 0) return [];
    return [{ tenant: record.tenant, second: record.dueMs / 1000, ms }];
  });
  return overTime(rows, {
    mark: { type: "point", size: 12, opacity: 0.6 },
    y: { field: "ms", type: "quantitative", title: "time to first token, ms" },
  });
}

/** Median and 90th percentile of the wait by adapter, those with the most requests first. */
export function waitsByAdapter({ adapters }: Phase): Promise<string> {
  const rows = adapters
    .slice(0, mostAdapters)
    .filter(({ ttftMs }) => ttftMs.count > 0)
    .map(({ name, ttftMs }) => ({ adapter: name, p50: ttftMs.p50, p90: ttftMs.p90 }));
  const y = { field: "adapter", type: "nominal", sort: null, title: null } as const;
  const x = (field: string) =>
    ({ field, type: "quantitative", title: "time to first token, ms: p50, p90" }) as const;
  return draw({
    data: { values: rows },
    width: 460,
    layer: [
      { mark: "bar", encoding: { y, x: x("p50") } },
      { mark: { type: "tick", color: "#c44", thickness: 3 }, encoding: { y, x: x("p90") } },
    ],
  });
}

type OverTime = { readonly mark: object; readonly y: object };

function overTime(rows: readonly Row[], { mark, y }: OverTime): Promise<string> {
  return draw({
    data: { values: rows },
    mark,
    width: 560,
    height,
    encoding: {
      x: { field: "second", type: "quantitative", title: "seconds", scale: { domainMin: 0 } },
      y,
      color: { field: "tenant", type: "nominal", sort: null, title: null, legend: { orient: "bottom" } },
    },
  } as TopLevelSpec);
}

async function draw(spec: object): Promise<string> {
  const config = { font: "sans-serif", background: "transparent" };
  const { spec: vegaSpec } = compile({ ...spec, config } as TopLevelSpec);
  const view = new View(parse(vegaSpec), { renderer: "none" });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

function present(value: number | null): number[] {
  return value === null ? [] : [value];
}
