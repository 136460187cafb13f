// Opens what requests need: text, the engine under its supervisor, adapters. Knows no listeners.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { openBackend } from "../adapters-store/backends/index.ts";
import { DecodePool } from "../adapters-store/decode-pool.ts";
import { makeFolderDurably, syncPath } from "../adapters-store/durable-files.ts";
import { openAdapterStore } from "../adapters-store/store.ts";
import { AdapterDeriver } from "../adapters-store/store-derive.ts";
import type { Engine, Progress } from "../scheduler/engine.ts";
import { startEngine } from "../scheduler/engine-client.ts";
import { AdapterFiles } from "./adapter-files.ts";
import { Compositions } from "./composition.ts";
import type { Serving } from "./context.ts";
import { EncodingTurns } from "./finetuning/encoding-turns.ts";
import { openJobStore } from "./finetuning/job-store.ts";
import { LossPlots } from "./finetuning/loss-plots.ts";
import { openJobs } from "./finetuning/open-jobs.ts";
import { SeedLedgers } from "./finetuning/seed-ledgers.ts";
import { TrainingFiles } from "./finetuning/training-files.ts";
import type { Logger } from "./logger.ts";
import type { AdapterLoad, Metrics } from "./metrics.ts";
import { type ServedAdapter, ServedAdapters } from "./served-adapters.ts";
import type { ServeOptions } from "./start.ts";
import { type Outage, SupervisedEngine } from "./supervisor.ts";
import { loadTextParts } from "./text/load-text.ts";
import { LongTextEncoder } from "./text/long-text-encoder.ts";
import { TextModel } from "./text/text-model.ts";
import { UploadRoom } from "./upload-room.ts";

export type ServingEvents = {
  readonly onProgress: (progress: Progress) => void;
  readonly onDown: (outage: Outage) => void;
  readonly onUp: (model: Engine["model"]) => void;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, "jobs" | "observeAdapterLoad">;
};

export type OpenedServing = Omit<Serving, "usage"> & {
  readonly engine: SupervisedEngine;
  readonly givenAtStart: readonly ServedAdapter[]; // those of --adapters, in the order of their names
};

/** Each part is handed to `cleanup` as soon as it exists. */
export async function openServing(
  options: ServeOptions & { readonly hostCacheBytes: number },
  { onProgress, onDown, onUp, logger, metrics }: ServingEvents,
  cleanup: AsyncDisposableStack,
): Promise<OpenedServing> {
  const longTexts = new LongTextEncoder(options.modelDirectory);
  cleanup.defer(() => longTexts.close());
  const text = new TextModel(await loadTextParts(options.modelDirectory), longTexts);
  let adapters: ServedAdapters | null = null;
  const engine = await SupervisedEngine.start({
    start: () => startEngine(options, onProgress),
    onDown,
    onUp: (model) => {
      adapters?.residency.hostLost();
      onUp(model);
    },
    ...(options.restartLimits && { limits: options.restartLimits }),
  });
  cleanup.defer(() => engine.close());
  const { fingerprint } = engine.model;
  const targets = { ...engine.model.targets, checkpointDirectory: options.modelDirectory };
  const directory = join(options.dataDirectory, "adapters");
  const pool = new DecodePool();
  cleanup.defer(() => pool.close());
  const backend = options.adapterStorage && (await openBackend(options.adapterStorage));
  cleanup.defer(() => backend?.close());
  const jobsDirectory = join(options.dataDirectory, "fine-tuning");
  await makeFolderDurably(jobsDirectory);
  const jobStore = openJobStore({
    path: join(jobsDirectory, "jobs.sqlite"),
    baseFingerprint: fingerprint,
    logger,
  });
  cleanup.defer(() => jobStore.close());
  await syncPath(jobsDirectory); // the names of the database's files
  const storeOptions = { directory, targets, baseFingerprint: fingerprint, pool };
  const held = jobStore.claims.parents();
  const store = await openAdapterStore({ ...storeOptions, held, ...(backend && { backend }) });
  cleanup.defer(() => store.close());
  const trainingFiles = await TrainingFiles.open(join(options.dataDirectory, "files"), {
    isUsed: (fileId) => jobStore.claims.jobUsing(fileId),
  });
  const ledgers = await SeedLedgers.open(join(jobsDirectory, "ledgers"), {
    targets: engine.model.targets,
    ownerOf: (jobId) => jobStore.claims.ownerOf(jobId),
  });
  const storedBesides = (owner: string) => trainingFiles.storedBytes(owner) + ledgers.storedBytes(owner);
  const { adaptersDirectory } = options;
  const givenAtStart = adaptersDirectory === null ? [] : await store.addDirectoriesInPlace(adaptersDirectory);
  const { modelName: baseName, hostCacheBytes } = options;
  const onError = (err: unknown, what: string) => logger.error({ err }, `adapters: ${what} failed`);
  const onLoaded = (load: AdapterLoad) => metrics.observeAdapterLoad(load);
  adapters = new ServedAdapters({
    store,
    engine,
    baseName,
    hostCacheBytes,
    storedBesides,
    reserved: (owner) => jobStore.claims.reserved(owner),
    onError,
    onLoaded,
  });
  const served = adapters;
  cleanup.defer(() => served.close());
  for (const adapter of store.all()) served.serve(adapter);
  void served.loadPinned();
  const uploadDirectory = await emptyFolder(join(options.dataDirectory, "uploads")); // a killed server left some
  const deriver = new AdapterDeriver({
    store,
    pool,
    base: { targets, fingerprint },
    directory: uploadDirectory,
  });
  const { derived } = served;
  const jobSources = {
    files: trainingFiles,
    text,
    model: engine.model,
    adapters: store,
    encodings: new EncodingTurns(),
  };
  const jobs = openJobs({
    engine,
    store: jobStore,
    sources: jobSources,
    adapters: served,
    ledgers,
    memoryBytes: options.scheduling.trainingMemoryBytes,
    directory: jobsDirectory,
    scratchDirectory: uploadDirectory,
    metrics: metrics.jobs,
    logger,
  });
  cleanup.defer(() => jobs.close(0));
  await jobs.start();
  return {
    engine,
    givenAtStart,
    jobs,
    jobSources,
    lossPlots: new LossPlots(),
    trainingMemoryBytes: options.scheduling.trainingMemoryBytes,
    text,
    compositions: new Compositions({ derived, deriver, layers: targets.layers }),
    deriver,
    derived,
    adaptersOf: (tenant) => served.of(tenant),
    allAdapters: served,
    baseRoot: options.modelDirectory,
    trainingFiles,
    uploads: new UploadRoom(uploadDirectory),
    adapterFiles: new AdapterFiles({
      store,
      pool,
      model: engine.model,
      baseName,
      scratchDirectory: uploadDirectory,
    }),
    loraDirectory: options.loraDirectory,
  };
}

async function emptyFolder(directory: string): Promise<string> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  return directory;
}
