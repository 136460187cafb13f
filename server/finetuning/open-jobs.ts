// Puts the parts together that finetuning jobs need. Knows no HTTP.

import { join } from "node:path";
import type { Engine } from "../../scheduler/engine.ts";
import type { Logger } from "../logger.ts";
import type { JobMetrics } from "../metrics/job-metrics.ts";
import type { ServedAdapters } from "../served-adapters.ts";
import { JobCheckpoints } from "./job-checkpoints.ts";
import { type JobDataSources, loadJobData } from "./job-data.ts";
import { JobManager } from "./job-manager.ts";
import { planJob } from "./job-plan.ts";
import type { PlannedJob } from "./job-record.ts";
import type { JobStore } from "./job-store.ts";
import { CheckpointPublisher } from "./publish-checkpoint.ts";
import type { SeedLedgers } from "./seed-ledgers.ts";
import { resultsCsv } from "./steps-csv.ts";
import type { TrainingFiles } from "./training-files.ts";

export type JobParts = {
  readonly engine: Engine;
  readonly store: JobStore;
  readonly sources: JobDataSources & { readonly files: TrainingFiles };
  readonly adapters: ServedAdapters;
  readonly ledgers: SeedLedgers;
  readonly memoryBytes: number; // of all jobs together
  readonly directory: string; // what must last
  readonly scratchDirectory: string;
  readonly metrics: JobMetrics;
  readonly logger: Logger;
};

/** The caller starts and closes it. */
export function openJobs(parts: JobParts): JobManager {
  const { engine, store, sources, adapters, ledgers, memoryBytes, metrics, logger } = parts;
  const planParts = { sources, model: engine.model, trainingMemoryBytes: memoryBytes };
  const publisher = new CheckpointPublisher({
    adapters,
    targets: engine.model.targets,
    directory: parts.scratchDirectory,
  });
  return new JobManager({
    engine,
    store,
    checkpoints: new JobCheckpoints(join(parts.directory, "checkpoints")),
    publisher,
    ledgers,
    load: loadJobData(sources),
    plan: (job, signal) =>
      sources.encodings.run(job.tenant.id, signal, (giveWay) => planJob(job, planParts, giveWay)),
    keepSteps: ({ id, tenant, resultFile }: PlannedJob) =>
      sources.files.keepResults({
        id: resultFile!,
        owner: tenant.id,
        filename: "step_metrics.csv", // OpenAI's
        content: resultsCsv(store, id),
      }),
    memoryBytes,
    sharedBytes: engine.model.trainingBaseBytes,
    metrics,
    logger,
    hold: (version, hold) => adapters.hold(version, hold),
    assertRoom: (tenant, sizeBytes) => adapters.of(tenant).checkRoom(sizeBytes),
  });
}
