// The server's life in this process: listeners first (so that /health answers), then what they serve; an engine's
// deaths; the drain at the end. Knows no flags: server/options.ts parses them into ServeOptions.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { BackendOptions } from "../adapters-store/backends/index.ts";
import { CotenantError } from "../kernels/errors.ts";
import type { Progress } from "../scheduler/engine.ts";
import type { Device, Quantization } from "../scheduler/protocol.ts";
import { maxAdaptersOf, type SchedulingOptions } from "../scheduler/scheduling-options.ts";
import { createApp } from "./app.ts";
import { bodyAllowance } from "./body-budget.ts";
import type { ServerContext, Serving } from "./context.ts";
import { lockFolder } from "./folder-lock.ts";
import { answerAllowance } from "./generation/answer-budget.ts";
import { RunningRequests } from "./generation/running-requests.ts";
import { type Listener, listen } from "./listen.ts";
import { createLogger, type LogLevel } from "./logger.ts";
import { type MemoryPlan, planServerMemory } from "./memory-plan.ts";
import { Metrics } from "./metrics.ts";
import { openServing } from "./open-serving.ts";
import { packageVersion } from "./package-root.ts";
import { readAhead } from "./read-ahead.ts";
import { Readiness } from "./readiness.ts";
import type { RestartLimits, SupervisedEngine } from "./supervisor.ts";
import { openKeyring, openToAll } from "./tenancy/keyring.ts";
import { RateLimits } from "./tenancy/rate-limits.ts";
import { defaultTenant } from "./tenancy/tenant.ts";
import { openUsageLedger, type UsageLedger } from "./usage/ledger.ts";
import { watchEngine } from "./watch-engine.ts";

export type ServeOptions = {
  readonly host: string;
  readonly port: number; // 0 = any free one; RunningServer.url says which
  readonly admin: { readonly host: string; readonly port: number } | null; // null = no admin listener
  readonly keysFile: string | null; // null = everybody is one tenant, who may do everything
  readonly refusesWebPages: boolean; // of other machines, and whoever calls the server by a name of another
  readonly modelDirectory: string;
  readonly modelName: string; // what requests call the base
  readonly adaptersDirectory: string | null; // its subfolders are PEFT directories, served from the start
  readonly dataDirectory: string; // what must last
  readonly cacheDirectory: string; // what can be rebuilt
  readonly device: Device;
  readonly quantize: Quantization;
  readonly maxRows: number;
  readonly maxContext: number; // tokens; 0 = what the checkpoint allows, at most 8192
  readonly threads: number; // 0 = all cores
  readonly plainGraphBytes?: number | undefined; // of the base's matrices, up to which a second session serves it without adapters
  readonly hostCacheBytes: number | null; // of decoded adapters in memory; null = a quarter of it, or what is left
  readonly loraDirectory: string | null; // of adapters that the admin listener may load by path
  readonly scheduling: SchedulingOptions;
  readonly maxConnections: number; // of the main listener
  readonly drainSeconds: number; // that answers under way have to end once the server closes
  readonly adapterStorage?: BackendOptions | null; // default: the data directory
  readonly restartLimits?: RestartLimits;
  readonly logLevel: LogLevel;
};

export type RunningServer = {
  readonly url: string;
  readonly adminUrl: string | null;
  readonly adapters: readonly { readonly id: string; readonly version: string }[]; // of tenant default, and shared
  /** Rejected with the reason when engines die too often; pending otherwise. */
  readonly failure: Promise<never>;
  readonly device: string; // what the model runs on and, where that was left to us, why
  close(): Promise<void>;
};

const adminConnections = 64; // of operators and scrapers

/** Resolves when requests can be served; listens long before. Rejects, with nothing left open, when it cannot. */
export async function startServer(
  options: ServeOptions,
  onProgress: (progress: Progress) => void = () => {},
): Promise<RunningServer> {
  await using cleanup = new AsyncDisposableStack();
  const memory = planServerMemory(options);
  const opened: Opened = { engine: null, usage: null };
  const context = await createContext({ ...options, memory }, opened, cleanup);
  const { readiness } = context;
  const storage = cleanup.use(new AsyncDisposableStack()); // outlives the connections, whose ends it records
  const limits = { maxConnections: options.maxConnections };
  const listener = await listen(createApp(context), { ...options, limits });
  cleanup.defer(() => listener.close());
  const adminLimits = { maxConnections: adminConnections };
  const adminApp = options.admin && createApp(context, "admin");
  const adminListener = adminApp && (await listen(adminApp, { ...options.admin, limits: adminLimits }));
  cleanup.defer(() => adminListener?.close());
  storage.use(await lockData(options.dataDirectory));
  const usage = openUsageLedger({
    path: join(options.dataDirectory, "usage.sqlite"),
    logger: context.logger,
  });
  opened.usage = usage;
  storage.defer(() => usage.close());
  storage.defer(() => nextTurn()); // answers that were cut just now are still to be recorded
  const life = watchEngine(context);
  const report = (progress: Progress) => {
    if (readiness.state.name === "loading") readiness.transition({ name: "loading", progress });
    onProgress(progress);
  };
  const { givenAtStart, ...parts } = await openServing(
    { ...options, hostCacheBytes: memory.hostCacheBytes },
    { ...life, onProgress: report, logger: context.logger, metrics: context.metrics },
    cleanup,
  );
  opened.engine = parts.engine;
  const serving = { ...parts, usage };
  readiness.transition({ name: "ready", serving });
  if (parts.engine.outage !== null) life.onDown(parts.engine.outage); // it died before anybody could ask
  parts.engine.failure.catch((error: unknown) => life.onGivenUp(error));
  const { residency } = parts.allAdapters;
  void readAhead(givenAtStart, { residency, readiness, logger: context.logger });
  const resources = cleanup.move();
  const listeners = adminListener === null ? [listener] : [listener, adminListener];
  return {
    url: listener.url,
    device: parts.engine.model.deviceNote,
    adminUrl: adminListener?.url ?? null,
    adapters: serving.adaptersOf(defaultTenant).list(),
    failure: parts.engine.failure,
    close: () => closeServer(readiness, { listeners, resources, drainMs: options.drainSeconds * 1000 }),
  };
}

/** What the context reads from before it exists. */
type Opened = { engine: SupervisedEngine | null; usage: UsageLedger | null };

/** What exists while the engine still loads. */
async function createContext(
  options: ServeOptions & { readonly memory: MemoryPlan },
  opened: Readonly<Opened>,
  cleanup: AsyncDisposableStack,
): Promise<ServerContext> {
  const readiness = new Readiness<Serving>();
  const logger = createLogger(options.logLevel);
  const keyring = options.keysFile === null ? openToAll : await openKeyring(options.keysFile, logger);
  cleanup.defer(() => keyring.close());
  const metrics = new Metrics({
    baseName: options.modelName,
    source: () => metricsSource(options, readiness, opened),
  });
  cleanup.defer(() => metrics.close());
  const tenantPart = options.keysFile === null ? 1 : 1 / 4; // without keys all are one tenant
  return {
    baseName: options.modelName,
    readiness,
    keyring,
    refusesWebPages: options.refusesWebPages,
    limits: new RateLimits({
      // A request that needs them has got past `readiness.serving`, and may end while the server closes.
      tokensSince: (tenantId, seconds) => opened.usage!.tokensSince(tenantId, seconds),
    }),
    requests: new RunningRequests(),
    bodies: bodyAllowance(tenantPart),
    answers: answerAllowance(tenantPart),
    metrics,
    memory: options.memory,
    logger,
    startedAtSeconds: Math.floor(Date.now() / 1000),
    packageVersion: packageVersion(),
  };
}

/** Two servers on one data folder would clear each other's uploads. */
async function lockData(directory: string): Promise<AsyncDisposable> {
  await mkdir(directory, { recursive: true });
  return lockFolder(directory, (owner, lockPath, cause) => {
    const remedy = `give this server a folder of its own with --data, or remove ${lockPath} if that process is not a cotenant`;
    return new CotenantError("data_in_use", `process ${owner} uses ${directory}: ${remedy}`, { cause });
  });
}

function metricsSource(
  { scheduling }: ServeOptions,
  { started }: Readiness<Serving>,
  { engine }: Readonly<Opened>,
) {
  if (started === null || engine === null) return null;
  const { allAdapters } = started;
  return {
    stats: engine.stats,
    engineRestarts: engine.restarts,
    maxAdapters: maxAdaptersOf(scheduling, engine.model.maxRows),
    adapters: allAdapters,
    jobCounts: () => started.jobs.store.counts(),
  };
}

type Closing = {
  readonly listeners: readonly Listener[];
  readonly resources: AsyncDisposableStack;
  readonly drainMs: number;
};

/** Not ready at once; what has begun may end in time; the rest hears of its end. */
async function closeServer(readiness: Readiness<Serving>, { listeners, resources, drainMs }: Closing) {
  if (readiness.state.name === "closing") return;
  readiness.transition({ name: "closing" });
  const jobs = readiness.started?.jobs.close(drainMs); // checkpoints; their followers hear of it
  await Promise.all([jobs, ...listeners.map((listener) => listener.drain(drainMs))]);
  await resources.disposeAsync(); // store, engine (whose streams end with an error), connections, metrics
}
