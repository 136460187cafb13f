// What every endpoint may use: the server for its whole life, and what it serves once it is ready.

import type { Engine } from "../scheduler/engine.ts";
import type { RunningRequests } from "./generation/running-requests.ts";
import type { Logger } from "./logger.ts";
import type { Metrics } from "./metrics.ts";
import type { Readiness } from "./readiness.ts";
import type { ServedAdapters, TenantAdapters } from "./served-adapters.ts";
import type { Keyring } from "./tenancy/keyring.ts";
import type { RateLimits } from "./tenancy/rate-limits.ts";
import type { Tenant } from "./tenancy/tenant.ts";
import type { TextModel } from "./text/text-model.ts";
import type { UsageLedger } from "./usage/ledger.ts";

export type ServerContext = {
  readonly baseName: string;
  readonly readiness: Readiness<Serving>;
  readonly keyring: Keyring;
  readonly limits: RateLimits;
  readonly requests: RunningRequests;
  readonly metrics: Metrics;
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
  readonly allAdapters: Pick<ServedAdapters, "list" | "namesOf">; // every tenant's: for metrics, never for an answer
  readonly usage: UsageLedger;
  readonly baseRoot: string; // the base's directory, as GET /v1/models shows it
  readonly uploadDirectory: string; // quarantine of uploads under way
};
