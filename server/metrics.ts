// Prometheus metrics of one server: vLLM's names where vLLM has one (so that routers and dashboards work as they
// are), cotenant_* for the rest. The only file that imports prom-client. Labels never carry request data.

import { monitorEventLoopDelay } from "node:perf_hooks";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { EngineStats, FinishReason, RequestTiming } from "../scheduler/protocol.ts";

/** What a scrape reads; null until the engine is ready. */
export type MetricsSource = {
  readonly stats: EngineStats;
  readonly maxRows: number;
  readonly adaptersRegistered: number;
  readonly namesOf: (adapterVersion: string) => readonly string[];
};

export type MetricsOptions = {
  readonly baseName: string;
  readonly source: () => MetricsSource | null;
};

/** Follows one choice from its submission to its end. */
export type GenerationMeter = {
  token(): void;
  finished(result: FinishedGeneration): void;
  end(): void; // counts it as aborted unless it finished
};

export type FinishedGeneration = {
  readonly reason: FinishReason;
  readonly tokens: number;
  readonly timing: RequestTiming | null;
};

export type HttpObservation = { readonly route: string; readonly method: string; readonly status: number };

// vLLM's own buckets (vllm/v1/metrics/loggers.py), so that its dashboards' quantiles keep their resolution.
const firstTokenBuckets = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
const perTokenBuckets = [
  0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
];
const latencyBuckets = [
  0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480,
];
const tokenBuckets = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000];

const delayResolutionMs = 5;

export class Metrics {
  readonly contentType: string;
  readonly #registry = new Registry();
  readonly #model: { readonly model_name: string };
  readonly #generation: ReturnType<typeof createGenerationMetrics>;
  readonly #http: Counter<"route" | "method" | "status">;
  readonly #delay = monitorEventLoopDelay({ resolution: delayResolutionMs });

  constructor(options: MetricsOptions) {
    this.contentType = this.#registry.contentType;
    this.#model = { model_name: options.baseName };
    this.#generation = createGenerationMetrics(this.#registry);
    createEngineMetrics(this.#registry, options);
    createProcessMetrics(this.#registry, this.#delay);
    this.#http = new Counter({
      name: "cotenant_http_requests_total",
      help: "HTTP requests by route pattern and status.",
      labelNames: ["route", "method", "status"],
      registers: [this.#registry],
    });
    this.#delay.enable();
  }

  /** The exposition text. */
  async render(): Promise<string> {
    return this.#registry.metrics();
  }

  observeHttp({ route, method, status }: HttpObservation): void {
    this.#http.inc({ route, method, status: String(status) });
  }

  startGeneration({ promptTokens }: { readonly promptTokens: number }): GenerationMeter {
    const metrics = this.#generation;
    const model = this.#model;
    const startedMs = performance.now();
    let lastTokenMs: number | null = null;
    let counted = 0; // generated tokens that the counter has
    let isOver = false;
    const finish = (reason: string) => {
      isOver = true;
      metrics.success.inc({ ...model, finished_reason: reason });
    };
    return {
      token() {
        const nowMs = performance.now();
        if (lastTokenMs === null) {
          metrics.promptTokens.inc(model, promptTokens);
          metrics.firstToken.observe(model, (nowMs - startedMs) / 1000);
        } else {
          metrics.interToken.observe(model, (nowMs - lastTokenMs) / 1000);
          metrics.perToken.observe(model, (nowMs - lastTokenMs) / 1000);
        }
        lastTokenMs = nowMs;
        counted++;
        metrics.generationTokens.inc(model);
      },
      finished({ reason, tokens, timing }) {
        finish(reason);
        if (counted === 0) metrics.promptTokens.inc(model, promptTokens);
        metrics.generationTokens.inc(model, tokens - counted); // the token that ended it has no event
        metrics.endToEnd.observe(model, (performance.now() - startedMs) / 1000);
        metrics.promptLength.observe(model, promptTokens);
        metrics.generationLength.observe(model, tokens);
        if (timing === null) return;
        metrics.queueTime.observe(model, timing.queuedMs / 1000);
        metrics.prefillTime.observe(model, timing.prefillMs / 1000);
        metrics.decodeTime.observe(model, timing.decodeMs / 1000);
      },
      end() {
        if (!isOver) finish("abort");
      },
    };
  }

  /** Stops the event-loop monitor, which would keep sampling. */
  close(): void {
    this.#delay.disable();
  }
}

function createGenerationMetrics(registry: Registry) {
  const labelNames = ["model_name"] as const;
  const registers = [registry];
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name, help, buckets, labelNames, registers });
  const counter = (name: string, help: string) => new Counter({ name, help, labelNames, registers });
  return {
    firstToken: histogram(
      "vllm:time_to_first_token_seconds",
      "From submission to the first token.",
      firstTokenBuckets,
    ),
    interToken: histogram(
      "vllm:inter_token_latency_seconds",
      "Between two tokens of a request.",
      perTokenBuckets,
    ),
    perToken: histogram(
      "vllm:time_per_output_token_seconds",
      "Former name of inter_token_latency.",
      perTokenBuckets,
    ),
    endToEnd: histogram("vllm:e2e_request_latency_seconds", "From submission to the end.", latencyBuckets),
    queueTime: histogram("vllm:request_queue_time_seconds", "Waiting for a row.", latencyBuckets),
    prefillTime: histogram("vllm:request_prefill_time_seconds", "Reading the prompt.", latencyBuckets),
    decodeTime: histogram("vllm:request_decode_time_seconds", "Generating.", latencyBuckets),
    promptLength: histogram("vllm:request_prompt_tokens", "Prompt tokens of a request.", tokenBuckets),
    generationLength: histogram(
      "vllm:request_generation_tokens",
      "Generated tokens of a request.",
      tokenBuckets,
    ),
    promptTokens: counter("vllm:prompt_tokens_total", "Prompt tokens processed."),
    generationTokens: counter("vllm:generation_tokens_total", "Tokens generated."),
    success: new Counter({
      name: "vllm:request_success_total",
      help: "Requests that ended, by reason.",
      labelNames: ["model_name", "finished_reason"] as const,
      registers,
    }),
  };
}

/** Gauges and totals that the engine keeps itself; read when scraped. */
function createEngineMetrics(registry: Registry, { baseName, source }: MetricsOptions): void {
  const registers = [registry];
  const gauge = (name: string, help: string, read: (from: MetricsSource) => number) =>
    new Gauge({
      name,
      help,
      labelNames: ["model_name"],
      registers,
      collect() {
        const from = source();
        if (from) this.set({ model_name: baseName }, read(from));
      },
    });
  const total = (name: string, help: string, read: (stats: EngineStats) => number) =>
    new Counter({
      name,
      help,
      labelNames: ["model_name"],
      registers,
      collect() {
        const from = source();
        this.reset();
        if (from) this.inc({ model_name: baseName }, read(from.stats));
      },
    });
  gauge("vllm:num_requests_running", "Requests with a row in the batch.", ({ stats }) => stats.running);
  gauge("vllm:num_requests_waiting", "Requests waiting for a row.", ({ stats }) => stats.waiting);
  gauge("vllm:kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1.", ({ stats }) =>
    stats.kvTokensCapacity === 0 ? 0 : stats.kvTokensUsed / stats.kvTokensCapacity,
  );
  gauge(
    "cotenant_adapters_registered",
    "Adapters that requests may name.",
    (from) => from.adaptersRegistered,
  );
  gauge(
    "cotenant_adapters_resident",
    "Adapter versions that hold device slots.",
    ({ stats }) => stats.residentAdapters.length,
  );
  total("cotenant_engine_steps_total", "Steps of the engine's loop.", (stats) => stats.steps);
  total("cotenant_engine_step_seconds_total", "Time in the engine's steps.", (stats) => stats.stepSeconds);
  total(
    "cotenant_engine_session_seconds_total",
    "Of the steps' time, inside the session's run.",
    (stats) => stats.sessionSeconds,
  );
  total(
    "cotenant_adapter_slot_loads_total",
    "Adapter versions copied into device slots.",
    (stats) => stats.slotLoads,
  );
  total(
    "cotenant_adapter_slot_evictions_total",
    "Adapter versions that left device slots.",
    (stats) => stats.slotEvictions,
  );
  total(
    "vllm:num_preemptions_total",
    "Sequences that lost their rows to others and start over.",
    (stats) => stats.preemptions,
  );
  total(
    "cotenant_late_first_tokens_total",
    "Requests whose first token came after --ttft-target-ms.",
    (stats) => stats.lateFirstTokens,
  );
  gauge(
    "cotenant_latency_model_decode_error_ratio",
    "Median relative error of the predicted decode steps; 0 before there are any.",
    ({ stats }) => stats.latencyErrors.decode ?? 0,
  );
  gauge(
    "cotenant_latency_model_prefill_error_ratio",
    "Median relative error of the predicted prefill chunks; 0 before there are any.",
    ({ stats }) => stats.latencyErrors.prefill ?? 0,
  );
  createLoraInfo(registry, source);
}

/** Gateway API Inference Extension reads the adapters' names from labels and takes the newest value. */
function createLoraInfo(registry: Registry, source: MetricsOptions["source"]): void {
  new Gauge({
    name: "vllm:lora_requests_info",
    help: "Adapters of running and waiting requests; the value is the Unix time in seconds.",
    labelNames: ["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
    registers: [registry],
    collect() {
      const from = source();
      this.reset(); // each combination of names would stay as a series of its own
      if (!from) return;
      const names = (versions: readonly string[]) =>
        versions.flatMap((version) => from.namesOf(version)).join(",");
      const labels = {
        max_lora: String(from.maxRows), // every row can have an adapter of its own
        running_lora_adapters: names(from.stats.runningAdapters),
        waiting_lora_adapters: names(from.stats.waitingAdapters),
      };
      this.set(labels, Date.now() / 1000);
    },
  });
}

type EventLoopDelay = ReturnType<typeof monitorEventLoopDelay>;

/** prom-client's default metrics hold gauges named _total, which promtool refuses. */
function createProcessMetrics(registry: Registry, delay: EventLoopDelay): void {
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  gauge("process_resident_memory_bytes", "Resident memory.", () => process.memoryUsage.rss());
  gauge(
    "process_start_time_seconds",
    "Unix time of the process's start.",
    () => performance.timeOrigin / 1000,
  );
  gauge(
    "cotenant_heap_used_bytes",
    "JavaScript heap in use on the HTTP thread.",
    () => process.memoryUsage().heapUsed,
  );
  gauge(
    "cotenant_event_loop_delay_p99_seconds",
    "99th percentile on the HTTP thread since the last scrape.",
    () => {
      const seconds = delay.count === 0 ? 0 : delay.percentile(99) / 1e9;
      delay.reset();
      return seconds;
    },
  );
  new Counter({
    name: "process_cpu_seconds_total",
    help: "User and system CPU time.",
    registers: [registry],
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
}
