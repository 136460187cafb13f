// What every endpoint may use: the server for its whole life, and what it serves once it is ready.

import type { Allowance } from "../adapters-store/allowance.ts";
import type { AdapterDeriver } from "../adapters-store/store-derive.ts";
import type { Engine } from "../scheduler/engine.ts";
import type { AdapterFiles } from "./adapter-files.ts";
import type { Compositions } from "./composition.ts";
import type { DerivedVersions } from "./derived-versions.ts";
import type { JobDataSources } from "./finetuning/job-data.ts";
import type { JobManager } from "./finetuning/job-manager.ts";
import type { LossPlots } from "./finetuning/loss-plots.ts";
import type { TrainingFiles } from "./finetuning/training-files.ts";
import type { RunningRequests } from "./generation/running-requests.ts";
import type { Logger } from "./logger.ts";
import type { MemoryPlan } from "./memory-plan.ts";
import type { Metrics } from "./metrics.ts";
import type { Readiness } from "./readiness.ts";
import type { ServedAdapters, TenantAdapters } from "./served-adapters.ts";
import type { Keyring } from "./tenancy/keyring.ts";
import type { RateLimits } from "./tenancy/rate-limits.ts";
import type { Tenant } from "./tenancy/tenant.ts";
import type { TextModel } from "./text/text-model.ts";
import type { UploadRoom } from "./upload-room.ts";
import type { UsageLedger } from "./usage/ledger.ts";

export type ServerContext = {
  readonly baseName: string;
  readonly readiness: Readiness<Serving>;
  readonly keyring: Keyring;
  readonly refusesWebPages: boolean;
  readonly limits: RateLimits;
  readonly requests: RunningRequests;
  readonly bodies: Allowance; // bytes, of body-budget.ts
  readonly answers: Allowance; // bytes, of generation/answer-budget.ts
  readonly metrics: Metrics;
  readonly memory: MemoryPlan;
  readonly logger: Logger;
  readonly startedAtSeconds: number; // Unix time
  readonly packageVersion: string;
};

/** Exists from the moment the engine is ready. */
export type Serving = {
  readonly engine: Engine;
  readonly text: TextModel;
  /** What a tenant may see and call: its own adapters and the shared ones. */
  readonly adaptersOf: (tenant: Tenant) => TenantAdapters;
  readonly allAdapters: Pick<ServedAdapters, "deviceHits" | "list" | "namesOf" | "residency">; // every tenant's: for metrics, never for an answer
  readonly compositions: Compositions;
  readonly deriver: Pick<AdapterDeriver, "compress" | "merge">;
  readonly derived: DerivedVersions; // versions that the deriver makes for requests
  readonly usage: UsageLedger;
  readonly baseRoot: string; // the base's directory, as GET /v1/models shows it
  readonly trainingFiles: TrainingFiles;
  readonly jobs: JobManager; // finetuning
  readonly jobSources: JobDataSources;
  readonly lossPlots: LossPlots;
  readonly trainingMemoryBytes: number; // of all jobs together
  readonly uploads: UploadRoom; // quarantine of those under way
  readonly adapterFiles: Pick<AdapterFiles, "open">;
  readonly loraDirectory: string | null; // where vLLM's load_lora_adapter finds adapters; null = nowhere
};
