// What every endpoint may use: the server for its whole life, and what it serves once it is ready.

import type { Engine } from "../scheduler/engine.ts";
import type { Logger } from "./logger.ts";
import type { Metrics } from "./metrics.ts";
import type { Readiness } from "./readiness.ts";
import type { ServedAdapters } from "./served-adapters.ts";
import type { TextModel } from "./text/text-model.ts";

export type ServerContext = {
  readonly baseName: string;
  readonly readiness: Readiness<Serving>;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly startedAtSeconds: number; // Unix time
  readonly packageVersion: string;
};

/** Exists from the moment the engine is ready. */
export type Serving = {
  readonly engine: Engine;
  readonly text: TextModel;
  readonly adapters: ServedAdapters;
  readonly baseRoot: string; // the base's directory, as GET /v1/models shows it
  readonly uploadDirectory: string; // quarantine of uploads under way
};
