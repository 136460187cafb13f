// What /metrics has to say after a soak: every request that was submitted finished, was cancelled or was refused;
// nothing still runs; memory does not grow.

import { atMost, type Check } from "./check.ts";
import { linearFit, type Point } from "./linear-fit.ts";
import type { MetricsText } from "./metrics-text.ts";
import { ScenarioError } from "./scenario.ts";

/** What the client knows of its requests. One that it left may have had any end, or not have arrived. */
export type Submitted = { readonly finished: number; readonly refused: number; readonly left: number };

const generationRoutes = ["/v1/completions", "/v1/chat/completions"];
const clientLeft = 499; // logged for a cancelled request, which its own counter has too

export function balanceChecks(before: MetricsText, after: MetricsText, client: Submitted): Check[] {
  const grown = (read: (metrics: MetricsText) => number) => read(after) - read(before);
  const stayed = client.finished + client.refused;
  const logged = grown((metrics) => loggedRequests(metrics, () => true));
  return [
    atMost(0, {
      name: "choices that the engine was given, minus those finished, cancelled and refused",
      value: Math.abs(grown(unendedChoices)),
    }),
    atMost(0, {
      name: "requests that the client did not leave and the server did not log, or that nobody sent",
      value: Math.max(0, stayed - logged, logged - stayed - client.left),
    }),
    atMost(0, {
      name: "answers that the client read to their end and the server does not count as finished",
      value: Math.max(0, client.finished - grown(finishedChoices)),
    }),
    atMost(0, {
      name: "refusals that the client saw and the server does not count",
      value: Math.max(0, client.refused - grown((metrics) => loggedRequests(metrics, isRefusal))),
    }),
  ];
}

/** Those under way, where each has one end. Throws ScenarioError where the server does not say. */
function unendedChoices(metrics: MetricsText): number {
  const submitted = metrics.sum("cotenant_requests_submitted_total");
  if (submitted === null)
    throw new ScenarioError("soak reads cotenant_requests_submitted_total from /metrics, which has none");
  const finished = finishedChoices(metrics);
  const cancelled = metrics.sum("cotenant_requests_cancelled_total");
  const refused = metrics.sum("cotenant_requests_refused_total");
  return submitted - finished - (cancelled ?? 0) - (refused ?? 0);
}

function finishedChoices(metrics: MetricsText): number {
  return metrics.sum("vllm:request_success_total", (labels) => labels.finished_reason !== "abort") ?? 0;
}

function loggedRequests(metrics: MetricsText, counts: (status: number) => boolean): number {
  return (
    metrics.sum(
      "cotenant_http_requests_total",
      ({ route, status }) => generationRoutes.includes(route ?? "") && counts(Number(status)),
    ) ?? 0
  );
}

function isRefusal(status: number): boolean {
  return status >= 400 && status !== clientLeft;
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
const warmUpShare = 1 / 3; // of an hour 20 minutes: heaps level out after 16 (docs/experiments.md)
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
