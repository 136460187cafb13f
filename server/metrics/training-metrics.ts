// Finetuning as the engine counts it, read when scraped. Jobs and their losses are in job-metrics.ts.

import type { TrainingStats, UnitTotals } from "../../scheduler/protocol.ts";
import type { Instruments } from "./instruments.ts";
import { type SourceOptions, sourceInstruments } from "./metrics-source.ts";

export function createTrainingMetrics(instruments: Instruments, options: SourceOptions): void {
  const { gauge, total, totals: totalsBy } = sourceInstruments(instruments, options);
  const totals: readonly (readonly [name: string, help: string, read: (stats: TrainingStats) => number])[] = [
    ["tokens", "Tokens of finetuning steps that are done.", ({ tokens }) => tokens],
    ["steps", "Finetuning steps that are done.", ({ steps }) => steps],
    ["units_deferred", "Engine steps that a unit of finetuning waited for.", (stats) => stats.unitsDeferred],
  ];
  for (const [name, help, read] of totals) {
    total({ name: `cotenant_training_${name}_total`, help }, ({ stats }) => read(stats.training));
  }
  const ofUnits: readonly (readonly [name: string, help: string, read: (units: UnitTotals) => number])[] = [
    ["units", "Units of finetuning that ran.", ({ count }) => count],
    ["unit_seconds", "Time in units of finetuning.", ({ seconds }) => seconds],
  ];
  for (const [name, help, read] of ofUnits) {
    totalsBy({ name: `cotenant_training_${name}_total`, help }, ["kind"], ({ stats }) =>
      Object.entries(stats.training.units).map(([kind, units]) => [{ kind }, read(units)]),
    );
  }
  gauge(
    {
      name: "cotenant_training_share",
      help: "Share of the engine's recent time that finetuning had while requests were there, 0 to 1.",
    },
    ({ stats }) => stats.training.shareOfTime,
  );
  gauge(
    {
      name: "cotenant_training_memory_bytes",
      help: "Memory that the finetuning jobs in the engine may come to use.",
    },
    ({ stats }) => stats.training.memoryBytes,
  );
  gauge(
    { name: "cotenant_training_waiting_jobs", help: "Finetuning jobs in the engine that wait for memory." },
    ({ stats }) => stats.training.waitingJobs,
  );
  gauge(
    {
      name: "cotenant_latency_model_training_error_ratio",
      help: "Median relative error of the predicted units of finetuning; 0 before there are any.",
    },
    ({ stats }) => stats.training.unitError ?? 0,
  );
}
