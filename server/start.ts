// Starts the whole server in this process: listener first (so that /health answers), then text, engine and
// adapters. Knows no flags: server/options.ts parses them into ServeOptions.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { type AdapterStore, openAdapterStore } from "../adapters-store/store.ts";
import { CotenantError } from "../kernels/errors.ts";
import type { Engine, Progress } from "../scheduler/engine.ts";
import { startEngine } from "../scheduler/engine-client.ts";
import type { Device, Quantization } from "../scheduler/protocol.ts";
import { createApp } from "./app.ts";
import type { Serving } from "./context.ts";
import { lockFolder } from "./folder-lock.ts";
import { type Listener, listen } from "./listen.ts";
import { createLogger, type Logger, type LogLevel } from "./logger.ts";
import { Metrics } from "./metrics.ts";
import { packageVersion } from "./package-root.ts";
import { Readiness } from "./readiness.ts";
import { ServedAdapters } from "./served-adapters.ts";
import { loadTextParts } from "./text/load-text.ts";
import { LongTextEncoder } from "./text/long-text-encoder.ts";
import { TextModel } from "./text/text-model.ts";

export type ServeOptions = {
  readonly host: string;
  readonly port: number; // 0 = any free one; RunningServer.url says which
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
  readonly logLevel: LogLevel;
};

export type RunningServer = {
  readonly url: string;
  readonly adapters: readonly { readonly id: string; readonly version: string }[];
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
  const readiness = new Readiness<Serving>();
  const logger = createLogger(options.logLevel);
  const metrics = new Metrics({ baseName: options.modelName, source: () => metricsSource(readiness) });
  const context = {
    baseName: options.modelName,
    readiness,
    metrics,
    logger,
    startedAtSeconds: Math.floor(Date.now() / 1000),
    packageVersion: packageVersion(),
  };
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => metrics.close());
  const listener = await listen(createApp(context), options);
  cleanup.defer(() => listener.close());
  const report = (progress: Progress) => {
    if (readiness.state.name === "loading") readiness.transition({ name: "loading", progress });
    onProgress(progress);
  };
  cleanup.use(await lockData(options.dataDirectory));
  const serving = await startServing(options, report, cleanup);
  readiness.transition({ name: "ready", serving });
  watchEngine(serving.engine, readiness, logger);
  const resources = cleanup.move();
  return {
    url: listener.url,
    adapters: serving.adapters.list(),
    failure: serving.engine.failure,
    close: () => closeServer(readiness, listener, resources),
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
): Promise<Serving> {
  const longTexts = new LongTextEncoder(options.modelDirectory);
  cleanup.defer(() => longTexts.close());
  const text = new TextModel(await loadTextParts(options.modelDirectory), longTexts);
  const engine = await startEngine(options, onProgress);
  cleanup.defer(() => engine.close());
  const { targets, fingerprint } = engine.model;
  const directory = join(options.dataDirectory, "adapters");
  const store = await openAdapterStore({ directory, targets, baseFingerprint: fingerprint });
  cleanup.defer(() => store.close());
  const adapters = new ServedAdapters({ store, engine, baseName: options.modelName });
  await serveStored(adapters, store, { options, onProgress });
  const uploadDirectory = join(options.dataDirectory, "uploads");
  await rm(uploadDirectory, { recursive: true, force: true }); // what a killed server left
  await mkdir(uploadDirectory, { recursive: true });
  return { engine, text, adapters, baseRoot: options.modelDirectory, uploadDirectory };
}

type StoredOptions = { readonly options: ServeOptions; readonly onProgress: (progress: Progress) => void };

async function serveStored(
  adapters: ServedAdapters,
  store: AdapterStore,
  { options, onProgress }: StoredOptions,
) {
  if (options.adaptersDirectory !== null) await store.addDirectoriesInPlace(options.adaptersDirectory);
  const stored = store.list();
  for (const [done, adapter] of stored.entries()) {
    onProgress({ stage: "adapters", done, total: stored.length });
    await adapters.serve(adapter);
  }
  if (stored.length > 0) onProgress({ stage: "adapters", done: stored.length, total: stored.length });
}

function metricsSource({ state }: Readiness<Serving>) {
  if (state.name !== "ready") return null;
  const { engine, adapters } = state.serving;
  return {
    stats: engine.stats,
    maxRows: engine.model.maxRows,
    adaptersRegistered: adapters.list().length,
    namesOf: (version: string) => adapters.namesOf(version),
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
  listener: Listener,
  resources: AsyncDisposableStack,
) {
  if (readiness.state.name !== "closing") readiness.transition({ name: "closing" });
  await listener.drain(drainMs);
  await resources.disposeAsync(); // store, engine (whose streams end with an error), connections, metrics
}
