// What /metrics has to say after a soak: every request that was submitted finished, was cancelled or was refused;
// nothing still runs; memory does not grow.

import { atMost, type Check } from "./check.ts";
import { linearFit, type Point } from "./linear-fit.ts";
import type { MetricsText } from "./metrics-text.ts";
import { ScenarioError } from "./scenario.ts";

/** What the client knows of its requests. */
export type Submitted = { readonly refused: number; readonly other: number };

const generationRoutes = ["/v1/completions", "/v1/chat/completions"];
const clientLeft = 499; // logged for a cancelled request, which its own counter has too

export function balanceChecks(before: MetricsText, after: MetricsText, client: Submitted): Check[] {
  const grown = (read: (metrics: MetricsText) => number) => read(after) - read(before);
  const ended = grown((metrics) => metrics.sum("vllm:request_success_total") ?? 0);
  const refused = grown(refusedRequests);
  return [
    atMost(0, {
      name: "choices that the engine was given, minus those finished, cancelled and refused",
      value: Math.abs(grown(unendedChoices)),
    }),
    atMost(0, {
      name: "requests submitted and not refused, minus those the server counts as ended",
      value: Math.abs(client.other - ended),
    }),
    atMost(0, {
      name: "refusals that the client saw, minus those the server counts",
      value: Math.abs(client.refused - refused),
    }),
  ];
}

/** Those under way, where each has one end. Throws ScenarioError where the server does not say. */
function unendedChoices(metrics: MetricsText): number {
  const submitted = metrics.sum("cotenant_requests_submitted_total");
  if (submitted === null)
    throw new ScenarioError("soak reads cotenant_requests_submitted_total from /metrics, which has none");
  const finished = metrics.sum("vllm:request_success_total", (labels) => labels.finished_reason !== "abort");
  const cancelled = metrics.sum("cotenant_requests_cancelled_total");
  const refused = metrics.sum("cotenant_requests_refused_total");
  return submitted - (finished ?? 0) - (cancelled ?? 0) - (refused ?? 0);
}

function refusedRequests(metrics: MetricsText): number {
  const isRefusal = ({ route, status }: Readonly<Record<string, string>>) =>
    generationRoutes.includes(route ?? "") && Number(status) >= 400 && Number(status) !== clientLeft;
  return metrics.sum("cotenant_http_requests_total", isRefusal) ?? 0;
}

/** Requests with a row or waiting for one. Throws ScenarioError where the server does not say. */
export function activeRequests(metrics: MetricsText): number {
  const running = metrics.sum("vllm:num_requests_running");
  const waiting = metrics.sum("vllm:num_requests_waiting");
  if (running === null || waiting === null)
    throw new ScenarioError(
      "soak reads vllm:num_requests_running and _waiting from /metrics, which has neither",
    );
  return running + waiting;
}

const secondsPerSlope = 600;
const mostGrowth = 0.01;
const warmUpShare = 0.2;
const leastSeconds = 300; // of a trend worth extrapolating to ten minutes

/** @param points seconds and resident bytes */
export function memoryCheck(points: readonly Point[]): {
  readonly check: Check | null;
  readonly note: string;
} {
  const last = points.at(-1)?.x ?? 0;
  const settled = points.filter(({ x }) => x >= last * warmUpShare);
  const { slope, mean } = linearFit(settled);
  const growth = (slope * secondsPerSlope) / mean;
  const seconds = last * (1 - warmUpShare);
  const figure = `resident memory: mean ${(mean / 2 ** 20).toFixed(0)} MiB, trend ${(100 * growth).toFixed(2)}% in 10 minutes`;
  if (seconds < leastSeconds)
    return { check: null, note: `${figure}; not judged: the soak needs ${leastSeconds} s after warm-up` };
  const claim = { name: "growth of resident memory in 10 minutes, share", value: growth };
  return { check: atMost(mostGrowth, claim), note: figure };
}
