// Hours of everything at once: adapters, lengths, cancels, uploads, deletes, refusals; then the server's own
// counters are asked whether anything was lost, stuck or leaked. Needs Cotenant's /metrics.

import { atLeast, atMost, type Check } from "../check.ts";
import type { Lengths } from "../lengths.ts";
import type { Point } from "../linear-fit.ts";
import type { Phase, Scenario } from "../scenario.ts";
import { activeRequests, balanceChecks, memoryCheck, type Submitted } from "../soak-balance.ts";
import { Chores } from "../soak-chores.ts";
import type { Stage } from "../stage.ts";

const cancelShare = 0.2;
const memorySamples = 300;
const peakClients = 32;
const mostPeakSeconds = 180;
const settleMs = 10_000;

export const soak: Scenario = {
  summary: "random mix with cancels, probes, refusals, uploads and deletes (--model DIR)",
  passes: "counters balance, nothing stays in a row, memory stays level, probes never change their answer",
  async run(stage) {
    const chores = new Chores(stage);
    await chores.prepare();
    await peak(stage);
    const earlier = chores.submitted;
    const before = await stage.metrics();
    activeRequests(before); // refuses servers without the metrics before the hours and not after
    const over = new AbortController();
    const [phase, points] = await Promise.all([
      traffic(stage).finally(() => over.abort()),
      watchMemory(stage, over.signal),
      chores.run(over.signal),
    ]);
    const stuck = await waitUntilIdle(stage);
    const after = await stage.metrics();
    const client = submittedBy(phase);
    const { submitted, counts } = chores;
    const memory = memoryCheck(points);
    stage.note(memory.note);
    stage.note(
      `${counts.probes} probes, ${counts.uploads} uploads, ${counts.deletes} deletes, ${phase.figures.cancelled} cancels`,
    );
    for (const text of counts.unexpected.slice(0, 5)) stage.note(`unexpected answer: ${text}`);
    return [
      atMost(0, { name: "requests still in the server after the drain", value: stuck }),
      ...balanceChecks(before, after, {
        ...client,
        finished: client.finished + submitted.finished - earlier.finished,
        refused: client.refused + submitted.refused - earlier.refused,
      }),
      atMost(0, {
        name: "failed requests other than 429",
        value: unexpectedFailures(phase) + counts.unexpected.length,
      }),
      atLeast(1, { name: "probes", value: counts.probes }),
      atMost(0, { name: "probes whose answer changed", value: counts.changedAnswers }),
      ...(memory.check === null ? [] : [memory.check]),
    ] satisfies Check[];
  },
};

/**
 * More clients than rows, with the longest prompts and answers: memory that the server takes once, the first time so
 * many of such lengths meet, it takes now. Else that would be hours later, by chance, and look like a leak.
 */
async function peak(stage: Stage): Promise<void> {
  const { tenants, durationSeconds, prompt, output } = stage.options;
  const { base, adapters } = stage.models;
  const longer = (lengths: Lengths) => ({ ...lengths, medianTokens: lengths.medianTokens * 3 });
  const streams = tenants.map((tenant) =>
    stage.stream(tenant, {
      arrivals: { kind: "closed", clients: peakClients },
      models: [base, ...adapters],
      prompt: longer(prompt),
      output: longer(output),
      cancelShare,
    }),
  );
  await stage.measure("peak", streams, { seconds: Math.min(mostPeakSeconds, durationSeconds / 10) });
}

function traffic(stage: Stage): Promise<Phase> {
  const { tenants, durationSeconds, variation } = stage.options;
  const { base, adapters } = stage.models;
  const streams = tenants.map((tenant) =>
    stage.stream(tenant, {
      arrivals: { kind: "bursty", requestsPerSecond: tenant.requestsPerSecond, variation },
      models: [base, ...adapters],
      cancelShare,
    }),
  );
  return stage.measure("soak", streams, { seconds: durationSeconds });
}

async function watchMemory(stage: Stage, over: AbortSignal): Promise<Point[]> {
  const everyMs = Math.max(1000, (stage.options.durationSeconds * 1000) / memorySamples);
  const startedMs = performance.now();
  const points: Point[] = [];
  while (!over.aborted) {
    const bytes = (await stage.metrics()).sum("process_resident_memory_bytes");
    if (bytes !== null) points.push({ x: (performance.now() - startedMs) / 1000, y: bytes });
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
  return points;
}

/** @returns how many requests are left when it is over or the time is */
async function waitUntilIdle(stage: Stage): Promise<number> {
  const deadline = performance.now() + settleMs;
  for (;;) {
    const active = activeRequests(await stage.metrics());
    if (active === 0 || performance.now() > deadline) return active;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

function isRefusal(error: string | null): boolean {
  return /^[45]\d\d /.test(error ?? "");
}

function submittedBy({ records }: Phase): Submitted {
  const refused = records.filter(({ error }) => isRefusal(error)).length;
  const finished = records.filter(({ outcome }) => outcome === "finished").length;
  return { finished, refused, left: records.length - refused - finished };
}

function unexpectedFailures({ records, figures }: Phase): number {
  const failed = records.filter(({ outcome, error }) => outcome === "failed" && !error!.startsWith("429 "));
  return failed.length + figures.unfinished;
}
