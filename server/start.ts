// Starts the whole server in this process: listeners first (so that /health answers), then text, engine and
// adapters. Knows no flags: server/options.ts parses them into ServeOptions.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { openAdapterStore } from "../adapters-store/store.ts";
import { CotenantError } from "../kernels/errors.ts";
import type { Engine, Progress } from "../scheduler/engine.ts";
import { startEngine } from "../scheduler/engine-client.ts";
import type { Device, Quantization } from "../scheduler/protocol.ts";
import type { SchedulingOptions } from "../scheduler/scheduling-options.ts";
import { createApp } from "./app.ts";
import type { ServerContext, Serving } from "./context.ts";
import { lockFolder } from "./folder-lock.ts";
import { RunningRequests } from "./generation/running-requests.ts";
import { type Listener, listen } from "./listen.ts";
import { createLogger, type Logger, type LogLevel } from "./logger.ts";
import { Metrics } from "./metrics.ts";
import { packageVersion } from "./package-root.ts";
import { Readiness } from "./readiness.ts";
import { ServedAdapters } from "./served-adapters.ts";
import { openKeyring, openToAll } from "./tenancy/keyring.ts";
import { RateLimits } from "./tenancy/rate-limits.ts";
import { defaultTenant } from "./tenancy/tenant.ts";
import { loadTextParts } from "./text/load-text.ts";
import { LongTextEncoder } from "./text/long-text-encoder.ts";
import { TextModel } from "./text/text-model.ts";
import { openUsageLedger } from "./usage/ledger.ts";

export type ServeOptions = {
  readonly host: string;
  readonly port: number; // 0 = any free one; RunningServer.url says which
  readonly admin: { readonly host: string; readonly port: number } | null; // null = no admin listener
  readonly keysFile: string | null; // null = everybody is one tenant, who may do everything
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
  readonly hostCacheBytes: number; // of decoded adapters in memory
  readonly scheduling: SchedulingOptions;
  readonly logLevel: LogLevel;
};

export type RunningServer = {
  readonly url: string;
  readonly adminUrl: string | null;
  readonly adapters: readonly { readonly id: string; readonly version: string }[]; // of tenant default, and shared
  /** Rejected with the reason when the engine dies; pending otherwise. */
  readonly failure: Promise<never>;
  close(): Promise<void>;
};

const drainMs = 5000; // under the 10 s that docker stop gives

/** Resolves when requests can be served; listens long before. Rejects, with nothing left open, when it cannot. */
export async function startServer(
  options: ServeOptions,
  onProgress: (progress: Progress) => void = () => {},
): Promise<RunningServer> {
  await using cleanup = new AsyncDisposableStack();
  const context = await createContext(options, cleanup);
  const { readiness, logger } = context;
  const storage = cleanup.use(new AsyncDisposableStack()); // outlives the connections, whose ends it records
  const listener = await listen(createApp(context), options);
  cleanup.defer(() => listener.close());
  const adminListener = options.admin && (await listen(createApp(context, "admin"), options.admin));
  cleanup.defer(() => adminListener?.close());
  const report = (progress: Progress) => {
    if (readiness.state.name === "loading") readiness.transition({ name: "loading", progress });
    onProgress(progress);
  };
  storage.use(await lockData(options.dataDirectory));
  const usage = openUsageLedger({ path: join(options.dataDirectory, "usage.sqlite"), logger });
  storage.defer(() => usage.close());
  storage.defer(() => nextTurn()); // answers that were cut just now are still to be recorded
  const parts = await startServing(options, report, cleanup);
  const serving = { ...parts, usage };
  readiness.transition({ name: "ready", serving });
  watchEngine(serving.engine, readiness, logger);
  const resources = cleanup.move();
  const listeners = adminListener === null ? [listener] : [listener, adminListener];
  return {
    url: listener.url,
    adminUrl: adminListener?.url ?? null,
    adapters: serving.adaptersOf(defaultTenant).list(),
    failure: serving.engine.failure,
    close: () => closeServer(readiness, listeners, resources),
  };
}

/** What exists while the engine still loads. */
async function createContext(options: ServeOptions, cleanup: AsyncDisposableStack): Promise<ServerContext> {
  const readiness = new Readiness<Serving>();
  const logger = createLogger(options.logLevel);
  const keyring = options.keysFile === null ? openToAll : await openKeyring(options.keysFile, logger);
  cleanup.defer(() => keyring.close());
  const metrics = new Metrics({ baseName: options.modelName, source: () => metricsSource(readiness) });
  cleanup.defer(() => metrics.close());
  return {
    baseName: options.modelName,
    readiness,
    keyring,
    limits: new RateLimits({
      tokensSince: (tenantId, seconds) => readiness.serving.usage.tokensSince(tenantId, seconds),
    }),
    requests: new RunningRequests(),
    metrics,
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

/** What requests need, each part handed to `cleanup` as soon as it exists. */
async function startServing(
  options: ServeOptions,
  onProgress: (progress: Progress) => void,
  cleanup: AsyncDisposableStack,
): Promise<Omit<Serving, "usage">> {
  const longTexts = new LongTextEncoder(options.modelDirectory);
  cleanup.defer(() => longTexts.close());
  const text = new TextModel(await loadTextParts(options.modelDirectory), longTexts);
  const engine = await startEngine(options, onProgress);
  cleanup.defer(() => engine.close());
  const { fingerprint } = engine.model;
  const targets = { ...engine.model.targets, checkpointDirectory: options.modelDirectory };
  const directory = join(options.dataDirectory, "adapters");
  const store = await openAdapterStore({ directory, targets, baseFingerprint: fingerprint });
  cleanup.defer(() => store.close());
  if (options.adaptersDirectory !== null) await store.addDirectoriesInPlace(options.adaptersDirectory);
  const { modelName: baseName, hostCacheBytes } = options;
  const adapters = new ServedAdapters({ store, engine, baseName, hostCacheBytes });
  for (const adapter of store.all()) adapters.serve(adapter);
  const uploadDirectory = join(options.dataDirectory, "uploads");
  await rm(uploadDirectory, { recursive: true, force: true }); // what a killed server left
  await mkdir(uploadDirectory, { recursive: true });
  return {
    engine,
    text,
    adaptersOf: (tenant) => adapters.of(tenant),
    allAdapters: adapters,
    baseRoot: options.modelDirectory,
    uploadDirectory,
  };
}

function metricsSource({ state }: Readiness<Serving>) {
  if (state.name !== "ready") return null;
  const { engine, allAdapters } = state.serving;
  return {
    stats: engine.stats,
    maxRows: engine.model.maxRows,
    adaptersRegistered: allAdapters.list().length,
    namesOf: (version: string) => allAdapters.namesOf(version),
  };
}

function watchEngine(engine: Engine, readiness: Readiness<Serving>, logger: Logger): void {
  engine.failure.catch((error: unknown) => {
    logger.error({ err: error }, "the engine died");
    const reason = error instanceof Error ? error.message : String(error);
    if (readiness.state.name === "ready") readiness.transition({ name: "failed", reason });
  });
}

async function closeServer(
  readiness: Readiness<Serving>,
  listeners: readonly Listener[],
  resources: AsyncDisposableStack,
) {
  if (readiness.state.name !== "closing") readiness.transition({ name: "closing" });
  await Promise.all(listeners.map((listener) => listener.drain(drainMs)));
  await resources.disposeAsync(); // store, engine (whose streams end with an error), connections, metrics
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
