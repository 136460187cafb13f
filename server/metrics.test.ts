import assert from "node:assert/strict";
import { test } from "node:test";
import { idleStats } from "../scheduler/protocol.ts";
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
  slotLoads: 3,
  slotEvictions: 1,
};

function scrape(source: MetricsSource | null) {
  const metrics = new Metrics({ baseName: "base", source: () => source });
  return {
    metrics,
    lines: async () => (await metrics.render()).split("\n").filter((line) => !line.startsWith("#")),
  };
}

const names = (version: string) => (version === "v1" ? ["orders", "orders-alias"] : ["tickets"]);
const source = { stats, maxRows: 4, adaptersRegistered: 3, namesOf: names };

test("gauges and totals show the engine's snapshot, scrape after scrape", async () => {
  const { metrics, lines } = scrape(source);
  await lines();
  const exposition = await lines();
  metrics.close();
  for (const line of [
    'vllm:num_requests_running{model_name="base"} 2',
    'vllm:kv_cache_usage_perc{model_name="base"} 0.25',
    'cotenant_engine_steps_total{model_name="base"} 10',
    'cotenant_adapters_registered{model_name="base"} 3',
  ]) {
    assert.ok(exposition.includes(line), line);
  }
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
    /\{max_lora="4",running_lora_adapters="tickets",waiting_lora_adapters=""\} \d{10}/,
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
