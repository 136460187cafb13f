// Gauges and totals that the engine keeps itself, read when scraped.

import { prefixBlockTokens } from "../../kernels/cpu/prefix-cache.ts";
import type { Instruments, Labels } from "./instruments.ts";
import { type SourceOptions, sourceInstruments } from "./metrics-source.ts";

/** Tenants with a series of their own in cotenant_tenant_queue_requests; the others are one together. */
export const maxQueueTenants = 20;
const otherTenants = "_other"; // no tenant can have this id

export function createEngineMetrics(instruments: Instruments, options: SourceOptions): void {
  const { gauge, total, gauges } = sourceInstruments(instruments, options);
  gauge(
    { name: "vllm:num_requests_running", help: "Requests with a row in the batch." },
    ({ stats }) => stats.running,
  );
  gauge(
    { name: "vllm:num_requests_waiting", help: "Requests waiting for a row." },
    ({ stats }) => stats.waiting,
  );
  gauges(
    {
      name: "cotenant_tenant_queue_requests",
      help: `Requests waiting for a row, of the ${maxQueueTenants} tenants with the most; those of the rest as ${otherTenants}.`,
    },
    ["tenant"],
    ({ stats }) => longestQueues(stats.waitingByTenant),
  );
  gauge({ name: "vllm:kv_cache_usage_perc", help: "Share of the KV cache in use, 0 to 1." }, ({ stats }) =>
    stats.kvTokensCapacity === 0 ? 0 : stats.kvTokensUsed / stats.kvTokensCapacity,
  );
  gauges(
    { name: "vllm:cache_config_info", help: "The KV cache in blocks of so many tokens; the value is 1." },
    ["block_size", "num_gpu_blocks"],
    ({ stats }) => {
      const blocks = Math.floor(stats.kvTokensCapacity / prefixBlockTokens);
      return [[{ block_size: String(prefixBlockTokens), num_gpu_blocks: String(blocks) }, 1]];
    },
  );
  total(
    { name: "vllm:prefix_cache_queries_total", help: "Prompt tokens that the prefix cache was asked for." },
    ({ stats }) => stats.prefixQueriedTokens,
  );
  total(
    { name: "vllm:prefix_cache_hits_total", help: "Of those, tokens that were there." },
    ({ stats }) => stats.prefixHitTokens,
  );
  gauge(
    { name: "cotenant_prefix_cache_bytes", help: "Keys and values of cached prompts." },
    ({ stats }) => stats.prefixBytes,
  );
  total(
    { name: "vllm:num_preemptions_total", help: "Sequences that lost their rows to others and start over." },
    ({ stats }) => stats.preemptions,
  );
  total(
    { name: "cotenant_engine_steps_total", help: "Steps of the engine's loop." },
    ({ stats }) => stats.steps,
  );
  total(
    { name: "cotenant_engine_step_seconds_total", help: "Time in the engine's steps." },
    ({ stats }) => stats.stepSeconds,
  );
  total(
    {
      name: "cotenant_engine_session_seconds_total",
      help: "Of the steps' time, inside the session's run.",
    },
    ({ stats }) => stats.sessionSeconds,
  );
  total(
    {
      name: "cotenant_engine_device_bus_bytes_total",
      help: "Bytes that went to and from a device with memory of its own; 0 on the CPU.",
    },
    ({ stats }) => stats.busBytes,
  );
  total(
    {
      name: "cotenant_late_first_tokens_total",
      help: "Requests whose first token came after --ttft-target-ms.",
    },
    ({ stats }) => stats.lateFirstTokens,
  );
  gauge(
    {
      name: "cotenant_latency_model_decode_error_ratio",
      help: "Median relative error of the predicted decode steps; 0 before there are any.",
    },
    ({ stats }) => stats.latencyErrors.decode ?? 0,
  );
  gauge(
    {
      name: "cotenant_latency_model_prefill_error_ratio",
      help: "Median relative error of the predicted prefill chunks; 0 before there are any.",
    },
    ({ stats }) => stats.latencyErrors.prefill ?? 0,
  );
  instruments.total({
    name: "cotenant_engine_restarts_total",
    help: "Engines that took the place of one that failed.",
    read: () => [{ labels: {}, value: options.source()?.engineRestarts ?? 0 }],
  });
}

function longestQueues(waitingByTenant: Readonly<Record<string, number>>): [Labels, number][] {
  const longestFirst = Object.entries(waitingByTenant).sort(([, one], [, other]) => other - one);
  const shown = longestFirst.slice(0, maxQueueTenants);
  const rest = longestFirst.slice(maxQueueTenants).reduce((sum, [, waiting]) => sum + waiting, 0);
  const series = rest > 0 ? [...shown, [otherTenants, rest] as const] : shown;
  return series.map(([tenant, waiting]) => [{ tenant }, waiting]);
}
