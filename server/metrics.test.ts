import assert from "node:assert/strict";
import { test } from "node:test";
import type { VersionResidency } from "../adapters-store/residency/residency.ts";
import { CotenantError } from "../kernels/errors.ts";
import { idleStats, idleTraining } from "../scheduler/protocol.ts";
import { maxNamedVersions } from "./metrics/adapter-metrics.ts";
import { maxQueueTenants } from "./metrics/engine-metrics.ts";
import { Metrics, type MetricsSource } from "./metrics.ts";

const stats = {
  ...idleStats,
  running: 2,
  waiting: 1,
  kvTokensUsed: 50,
  kvTokensCapacity: 200,
  runningAdapters: ["v1", "v2"],
  waitingAdapters: [],
  residentAdapters: ["v1", "v2"],
  steps: 10,
  stepSeconds: 1.5,
  sessionSeconds: 1,
  busBytes: 1,
  slotLoads: 3,
  slotLoadTimes: { bounds: [0.001, 0.01], counts: [2, 0, 1], sumSeconds: 0.5 },
  slotEvictions: 1,
  training: {
    ...idleTraining,
    tokens: 640,
    steps: 5,
    units: { forward: { count: 30, seconds: 0.75 }, update: { count: 5, seconds: 0.01 } },
    shareOfTime: 0.4,
    unitError: 0.1,
  },
};

function scrape(source: MetricsSource | null) {
  const metrics = new Metrics({ baseName: "base", source: () => source });
  return {
    metrics,
    lines: async () => (await metrics.render()).split("\n").filter((line) => !line.startsWith("#")),
  };
}

const names = (version: string) => (version === "v1" ? ["orders", "orders-alias"] : ["tickets"]);
const residencyStats = {
  registered: 3,
  resident: 2,
  waiting: 0,
  capacityBytes: 1000,
  residentBytes: 600,
  pinnedBytes: 100,
  hits: 7,
  misses: 2,
  loads: 2,
  loadFailures: 0,
  evictions: 1,
};
const idle = {
  state: "resident",
  leases: 0,
  isPinned: false,
  hits: 0,
  misses: 0,
  loads: 0,
  lastUsedMs: null,
} as const;
const noVersions: VersionResidency[] = [];
const adapters = {
  list: () => [served("v1", 100, 400), served("v2", 50, 200), served("v2", 50, 200)],
  deviceHits: 4,
  namesOf: names,
  residency: {
    stats: () => residencyStats,
    recent: (limit: number) => noVersions.slice(0, limit),
    info: (version: string) => ({ ...idle, version, sizeBytes: version === "v1" ? 400 : 200 }),
  },
};
const jobCounts = () => new Map([["running", 2]]);
const source = { stats, engineRestarts: 0, maxAdapters: 3, adapters, jobCounts };

function served(version: string, sizeBytes: number, decodedBytes: number) {
  const modulesMatched = { count: 1, names: [] };
  return {
    version,
    summary: { kinds: [], ranks: null, modulesMatched, modulesUnmatched: [], sizeBytes, decodedBytes },
  };
}

test("gauges and totals show the engine's snapshot, scrape after scrape", async () => {
  const { metrics, lines } = scrape(source);
  await lines();
  const exposition = await lines();
  metrics.close();
  for (const line of [
    'vllm:num_requests_running{model_name="base"} 2',
    'vllm:kv_cache_usage_perc{model_name="base"} 0.25',
    'cotenant_engine_steps_total{model_name="base"} 10',
    'cotenant_training_tokens_total{model_name="base"} 640',
    'cotenant_training_steps_total{model_name="base"} 5',
    'cotenant_training_unit_seconds_total{model_name="base",kind="forward"} 0.75',
    'cotenant_training_units_total{model_name="base",kind="update"} 5',
    'cotenant_training_units_deferred_total{model_name="base"} 0',
    'cotenant_training_share{model_name="base"} 0.4',
    'cotenant_latency_model_training_error_ratio{model_name="base"} 0.1',
    'cotenant_adapters_registered{model_name="base"} 3',
    'cotenant_adapter_hits_total{model_name="base",tier="host"} 3',
    'cotenant_adapter_hits_total{model_name="base",tier="device"} 4',
    'cotenant_adapter_hits_total{model_name="base",tier="store"} 2',
    'cotenant_adapter_loads_total{model_name="base",tier="device"} 3',
    'cotenant_adapter_resident_bytes{model_name="base",tier="host"} 600',
    'cotenant_adapter_resident_bytes{model_name="base",tier="device"} 600',
    'cotenant_adapter_resident_bytes{model_name="base",tier="store"} 150',
    'cotenant_adapter_compression_ratio{model_name="base"} 4',
    'vllm:cache_config_info{model_name="base",block_size="128",num_gpu_blocks="1"} 1',
  ]) {
    assert.ok(exposition.includes(line), line);
  }
});

test("loads of both tiers are one histogram, of which the engine counts its own", async () => {
  const { metrics, lines } = scrape(source);
  metrics.observeAdapterLoad({ seconds: 0.02, sizeBytes: 1 });
  await lines();
  const exposition = await lines();
  metrics.close();
  const labels = (tier: string) => `{model_name="base",tier="${tier}"}`;
  for (const line of [
    `cotenant_adapter_load_seconds_count${labels("host")} 1`,
    `cotenant_adapter_load_seconds_count${labels("device")} 3`,
    `cotenant_adapter_load_seconds_sum${labels("device")} 0.5`,
  ]) {
    assert.ok(exposition.includes(line), line);
  }
  const buckets = exposition.flatMap((line) => {
    const match = /^cotenant_adapter_load_seconds_bucket\{(?=.*"device").*le="([^"]+)".*\} (\d+)$/.exec(line);
    return match === null ? [] : [`${match[1]}: ${match[2]}`];
  });
  assert.deepEqual(buckets, ["0.001: 2", "0.01: 2", "+Inf: 3"]);
});

test("the adapters' info gauge has one series, by name, and a time", async () => {
  let running = ["v1", "v2"];
  const changing = {
    ...source,
    get stats() {
      return { ...stats, runningAdapters: running };
    },
  }; // prettier-ignore
  const { metrics, lines } = scrape(changing);
  await lines();
  running = ["v2"];
  const series = (await lines()).filter((line) => line.startsWith("vllm:lora_requests_info"));
  metrics.close();
  assert.equal(series.length, 1);
  assert.match(
    series[0]!,
    /\{max_lora="3",running_lora_adapters="tickets",waiting_lora_adapters=""\} \d{10}/,
  );
});

test("a generation counts its prompt once, its tokens with the one that ended it, and how it ended", async () => {
  const { metrics, lines } = scrape(null);
  const whole = metrics.startGeneration({ promptTokens: 7 });
  whole.token();
  whole.token();
  whole.finished({ reason: "stop", tokens: 3, timing: { queuedMs: 1, prefillMs: 2, decodeMs: 3 } });
  whole.end();
  metrics.startGeneration({ promptTokens: 9 }).end();
  const exposition = await lines();
  metrics.close();
  for (const line of [
    'vllm:prompt_tokens_total{model_name="base"} 7',
    'vllm:generation_tokens_total{model_name="base"} 3',
    'vllm:time_to_first_token_seconds_count{model_name="base"} 1',
    'vllm:inter_token_latency_seconds_count{model_name="base"} 1',
    'vllm:request_success_total{model_name="base",finished_reason="stop"} 1',
    'vllm:request_success_total{model_name="base",finished_reason="abort"} 1',
  ]) {
    assert.ok(exposition.includes(line), line);
  }
});

function resident(version: string, isPinned = false): VersionResidency {
  const counts = { leases: 0, hits: 0, misses: 0, loads: 1, lastUsedMs: 0 };
  return { version, state: "resident", sizeBytes: 1, isPinned, ...counts };
}

test("loaded adapters have a series by name, at the better of a name's places, and never too many", async () => {
  let recent = [resident("v1", true), resident("v3"), resident("v4")];
  const namesOf = (version: string) =>
    ({ v1: ["a", "b"], v3: ["b", "c"], v4: ["c"] })[version] ?? [`name of ${version}`, "again"];
  const residency = { ...adapters.residency, recent: (limit: number) => recent.slice(0, limit) };
  const { metrics, lines } = scrape({ ...source, adapters: { ...adapters, namesOf, residency } });
  const loaded = async () => (await lines()).filter((line) => line.startsWith("vllm:lora_adapter_loaded"));
  const series = (name: string, level: string, pinned: boolean) =>
    `vllm:lora_adapter_loaded{model_name="base",adapter_name="${name}",level="${level}",pinned="${pinned}"} 1`;
  assert.deepEqual(await loaded(), [
    series("a", "gpu", true),
    series("b", "gpu", true),
    series("c", "cpu", false),
  ]);
  recent = Array.from({ length: 2000 }, (_, index) => resident(`w${index}`));
  assert.equal((await loaded()).length, maxNamedVersions);
  recent = [];
  assert.deepEqual(await loaded(), []);
  metrics.close();
});

test("tenants' queues have so many series and one for the rest", async () => {
  const waitingByTenant = Object.fromEntries(
    Array.from({ length: maxQueueTenants + 5 }, (_, index) => [`t${index}`, index + 1]),
  );
  const { metrics, lines } = scrape({ ...source, stats: { ...stats, waitingByTenant } });
  const queues = (await lines()).filter((line) => line.startsWith("cotenant_tenant_queue_requests"));
  metrics.close();
  assert.equal(queues.length, maxQueueTenants + 1);
  assert.ok(queues.includes('cotenant_tenant_queue_requests{model_name="base",tenant="t24"} 25'));
  assert.ok(queues.includes('cotenant_tenant_queue_requests{model_name="base",tenant="_other"} 15'));
});

test("every submitted choice is finished, cancelled or refused, once", async () => {
  const { metrics, lines } = scrape(null);
  const ends = ["finished", "cancelled", "refused", "failed", "refused", "cancelled", "cancelled"] as const;
  for (const end of ends) {
    const meter = metrics.startGeneration({ promptTokens: 1 });
    meter.token();
    if (end === "finished") meter.finished({ reason: "length", tokens: 1, timing: null });
    if (end === "refused") meter.refused(new CotenantError("queue_full", "full"));
    if (end === "failed") meter.refused(new Error("a bug"));
    meter.end();
    meter.end();
  }
  const exposition = await lines();
  metrics.close();
  for (const line of [
    'cotenant_requests_submitted_total{model_name="base"} 7',
    'vllm:request_success_total{model_name="base",finished_reason="length"} 1',
    'vllm:request_success_total{model_name="base",finished_reason="abort"} 3',
    'cotenant_requests_cancelled_total{model_name="base"} 3',
    'cotenant_requests_refused_total{model_name="base",code="queue_full"} 2',
    'cotenant_requests_refused_total{model_name="base",code="internal_error"} 1',
  ]) {
    assert.ok(exposition.includes(line), line);
  }
});

test("two servers in one process count apart", async () => {
  const [first, second] = [scrape(null), scrape(null)];
  first.metrics.observeHttp({ route: "/health", method: "GET", status: 200 });
  const counted = (lines: string[]) =>
    lines.filter((line) => line.startsWith("cotenant_http_requests_total")).length;
  assert.equal(counted(await first.lines()), 1);
  assert.equal(counted(await second.lines()), 0);
  first.metrics.close();
  second.metrics.close();
});
