// What is counted of generations, choice by choice. Every one that is submitted ends once: finished
// (vllm:request_success_total with stop or length), cancelled, or refused.

import { CotenantError } from "../../kernels/errors.ts";
import type { FinishReason, RequestTiming } from "../../scheduler/protocol.ts";
import type { Instruments } from "./instruments.ts";

/** Follows one choice from its submission to its end. */
export type GenerationMeter = {
  token(): void;
  finished(result: FinishedGeneration): void;
  refused(error: unknown): void; // the engine did not take it, or did not end it
  end(): void; // cancelled, unless it has ended in another way
};

export type FinishedGeneration = {
  readonly reason: FinishReason;
  readonly tokens: number;
  readonly timing: RequestTiming | null;
};

export type StartGeneration = (request: { readonly promptTokens: number }) => GenerationMeter;

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

export function createGenerationMetrics(instruments: Instruments, baseName: string): StartGeneration {
  const metrics = createInstruments(instruments);
  const model = { model_name: baseName };
  return ({ promptTokens }) => {
    const startedMs = performance.now();
    let lastTokenMs: number | null = null;
    let counted = 0; // generated tokens that the counter has
    let isOver = false;
    metrics.submitted.inc(model);
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
      refused(error) {
        if (isOver) return;
        isOver = true;
        metrics.refused.inc({
          ...model,
          code: error instanceof CotenantError ? error.code : "internal_error",
        });
      },
      end() {
        if (isOver) return;
        finish("abort");
        metrics.cancelled.inc(model);
      },
    };
  };
}

function createInstruments(instruments: Instruments) {
  const labelNames = ["model_name"];
  const histogram = (name: string, help: string, buckets: readonly number[]) =>
    instruments.histogram({ name, help, labelNames }, buckets);
  const counter = (name: string, help: string, ...labels: readonly string[]) =>
    instruments.counter({ name, help, labelNames: [...labelNames, ...labels] });
  return {
    submitted: counter(
      "cotenant_requests_submitted_total",
      "Choices given to the engine: those under way, finished, cancelled and refused.",
    ),
    cancelled: counter("cotenant_requests_cancelled_total", "Choices whose client left or cancelled them."),
    refused: counter(
      "cotenant_requests_refused_total",
      "Choices that the engine turned away or ended before they were done, by the error's code.",
      "code",
    ),
    success: counter(
      "vllm:request_success_total",
      "Requests that ended, by reason; abort = cancelled.",
      "finished_reason",
    ),
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
  };
}
