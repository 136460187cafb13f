// The engine's gauges and counters as one message for the HTTP thread.

import type { ModelRunner } from "../kernels/model-runner.ts";
import type { EngineStats } from "./protocol.ts";
import type { Sequence } from "./sequence.ts";
import type { SequenceTable } from "./sequence-table.ts";

export type LoopCounters = Pick<
  EngineStats,
  | "steps"
  | "stepSeconds"
  | "refusedForLoad"
  | "timedOut"
  | "lateFirstTokens"
  | "latencyErrors"
  | "promptTokensPerStep"
  | "training"
>;

export function engineStats(runner: ModelRunner, table: SequenceTable, counters: LoopCounters): EngineStats {
  const device = runner.stats();
  const sequences = table.all();
  const waiting = sequences.filter(({ state }) => state === "waiting");
  const running = sequences.filter(({ state }) => state !== "waiting");
  const byTenant = Map.groupBy(waiting, ({ request }) => request.tenant.id);
  return {
    ...counters,
    running: running.length,
    waiting: waiting.length,
    kvTokensUsed: device.kvTokensUsed,
    kvTokensCapacity: runner.maxRows * runner.maxContext,
    kvBytesUsed: device.kvBytesUsed,
    kvBytesCapacity: device.kvBytesCapacity,
    prefixQueriedTokens: device.prefixQueriedTokens,
    prefixHitTokens: device.prefixHitTokens,
    prefixBytes: device.prefixBytes,
    runningAdapters: adaptersOf(running),
    waitingAdapters: adaptersOf(waiting),
    residentAdapters: device.residentAdapters,
    sessionSeconds: device.sessionMs / 1000,
    busBytes: device.busBytes,
    slotLoads: device.slotLoads,
    slotLoadTimes: device.slotLoadTimes,
    slotEvictions: device.slotEvictions,
    preemptions: table.preemptions,
    waitingByTenant: Object.fromEntries([...byTenant].map(([tenant, own]) => [tenant, own.length])),
  };
}

function adaptersOf(sequences: readonly Sequence[]): string[] {
  return [...new Set(sequences.flatMap(({ adapterVersions }) => adapterVersions))];
}
