// Opens what requests need: text, the engine under its supervisor, adapters. Knows no listeners.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { openAdapterStore } from "../adapters-store/store.ts";
import type { Progress } from "../scheduler/engine.ts";
import { startEngine } from "../scheduler/engine-client.ts";
import type { Serving } from "./context.ts";
import { ServedAdapters } from "./served-adapters.ts";
import type { ServeOptions } from "./start.ts";
import { type Outage, SupervisedEngine } from "./supervisor.ts";
import { loadTextParts } from "./text/load-text.ts";
import { LongTextEncoder } from "./text/long-text-encoder.ts";
import { TextModel } from "./text/text-model.ts";

export type ServingEvents = {
  readonly onProgress: (progress: Progress) => void;
  readonly onDown: (outage: Outage) => void;
  readonly onUp: () => void;
};

export type OpenedServing = Omit<Serving, "usage"> & { readonly engine: SupervisedEngine };

/** Each part is handed to `cleanup` as soon as it exists. */
export async function openServing(
  options: ServeOptions,
  { onProgress, onDown, onUp }: ServingEvents,
  cleanup: AsyncDisposableStack,
): Promise<OpenedServing> {
  const longTexts = new LongTextEncoder(options.modelDirectory);
  cleanup.defer(() => longTexts.close());
  const text = new TextModel(await loadTextParts(options.modelDirectory), longTexts);
  let adapters: ServedAdapters | null = null;
  const engine = await SupervisedEngine.start({
    start: () => startEngine(options, onProgress),
    onDown,
    onUp: () => {
      adapters?.residency.hostLost();
      onUp();
    },
    ...(options.restartLimits && { limits: options.restartLimits }),
  });
  cleanup.defer(() => engine.close());
  const { fingerprint } = engine.model;
  const targets = { ...engine.model.targets, checkpointDirectory: options.modelDirectory };
  const directory = join(options.dataDirectory, "adapters");
  const store = await openAdapterStore({ directory, targets, baseFingerprint: fingerprint });
  cleanup.defer(() => store.close());
  if (options.adaptersDirectory !== null) await store.addDirectoriesInPlace(options.adaptersDirectory);
  const { modelName: baseName, hostCacheBytes } = options;
  adapters = new ServedAdapters({ store, engine, baseName, hostCacheBytes });
  const served = adapters;
  for (const adapter of store.all()) served.serve(adapter);
  return {
    engine,
    text,
    adaptersOf: (tenant) => served.of(tenant),
    allAdapters: served,
    baseRoot: options.modelDirectory,
    uploadDirectory: await emptyFolder(join(options.dataDirectory, "uploads")), // a killed server left some
  };
}

async function emptyFolder(directory: string): Promise<string> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  return directory;
}
