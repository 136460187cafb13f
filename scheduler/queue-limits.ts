// Back-pressure: who is turned away because too many wait already, and when another try is worth it.

import { membersOf } from "./members.ts";
import type { GenerationRequest } from "./protocol.ts";
import type { Refusal } from "./request-check.ts";
import type { Sequence } from "./sequence.ts";
import type { LatencyEstimate } from "./step-latency.ts";

export type QueueLimits = {
  readonly maxRows: number;
  readonly maxQueue: number;
  readonly maxQueuePerTenant: number;
};

export type QueueForecast = {
  readonly latency: LatencyEstimate;
  readonly chunkTokens: number;
  readonly outputTokens: number; // of a usual request
};

const unknownMs = 1000; // where nothing was measured yet
const shortestMs = 100;
const longestMs = 60_000;

/** Requests that find their rows free at the next step do not count as waiting. */
export function queueRefusal(
  request: GenerationRequest,
  sequences: readonly Sequence[],
  queue: Queue,
): Refusal | null {
  const { limits } = queue;
  const waiting = sequences.filter(({ state }) => state === "waiting");
  const running = sequences.filter(({ state }) => state !== "waiting");
  const freeRows = limits.maxRows - running.reduce((rows, { members }) => rows + members.length, 0);
  const isFull = (before: readonly Sequence[], limit: number) => {
    const { queued, rowsLeft } = afterRows(before, freeRows);
    return queued >= limit && membersOf(request).length > rowsLeft;
  };
  // How many of others wait is nobody's business.
  if (isFull(waiting, limits.maxQueue)) return refused("the server's queue is full", waiting, queue);
  const own = waiting.filter((other) => other.request.tenant.id === request.tenant.id);
  if (isFull(own, limits.maxQueuePerTenant)) {
    return refused(`your queue is full (${own.length} requests wait)`, waiting, queue);
  }
  return null;
}

/** How many of them still wait once those that fit have taken the free rows, in order of arrival. */
function afterRows(waiting: readonly Sequence[], freeRows: number): { queued: number; rowsLeft: number } {
  let [queued, rowsLeft] = [0, freeRows];
  for (const { members } of waiting) {
    if (members.length <= rowsLeft) rowsLeft -= members.length;
    else queued++;
  }
  return { queued, rowsLeft };
}

type Queue = { readonly limits: QueueLimits; readonly forecast: QueueForecast };

function refused(problem: string, waiting: readonly Sequence[], queue: Queue): Refusal {
  const retryAfterMs = retryAfter(waiting, queue);
  const message = `${problem}; send it again in ${Math.ceil(retryAfterMs / 1000)} s`;
  return { code: "queue_full", message, retryAfterMs };
}

/** When half of those who wait now will have had their turn: prompts one after the other, answers side by side. */
function retryAfter(waiting: readonly Sequence[], { limits, forecast }: Queue): number {
  const { latency, chunkTokens, outputTokens } = forecast;
  const chunkMs = latency.chunkMs({ tokens: chunkTokens, pastTokens: 0, adapterBytes: 0 });
  const stepMs = latency.decodeMs({ rows: limits.maxRows, pastTokens: 0, adapterBytes: 0 });
  if (chunkMs === null || stepMs === null) return unknownMs;
  const totalMs = waiting.reduce((sum, { request }) => {
    const promptMs = (request.promptTokenIds.length / chunkTokens) * chunkMs;
    const answerMs = (Math.min(request.maxTokens, outputTokens) * stepMs) / limits.maxRows;
    return sum + promptMs + answerMs;
  }, 0);
  return Math.round(Math.min(longestMs, Math.max(shortestMs, totalMs / 2)));
}
