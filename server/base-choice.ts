// Which directory --model means: the embedded model, a directory on disk, or a download from the hub.

import { stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { Progress } from "../scheduler/engine.ts";
import type { Quantization } from "../scheduler/protocol.ts";
import { looksLikePath, parseModelReference } from "./hub/model-reference.ts";
import { downloadModel, publicHub } from "./hub.ts";
import { UsageError } from "./options/errors.ts";
import type { Environment } from "./options/kinds.ts";
import type { Options } from "./options.ts";
import { packageRoot } from "./package-root.ts";

export type BaseChoice = {
  readonly modelDirectory: string;
  readonly modelName: string; // what requests call it
  readonly adaptersDirectory: string | null;
  readonly quantize: Quantization;
  readonly embedded: boolean;
};

export type ChoiceContext = {
  readonly environment: Environment;
  readonly onProgress: (progress: Progress) => void;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
};

export const embeddedModel = {
  directory: join(packageRoot, "models", "tiny"),
  name: "cotenant-tiny",
  quantize: "none", // a few megabytes: rounding would save nothing that anybody notices
} as const;

/** Throws UsageError where the text is neither a directory nor a name on the hub; HubError from the download. */
export async function chooseBase(options: Options, context: ChoiceContext): Promise<BaseChoice> {
  if (options.model === null) {
    const demoAdapters = join(embeddedModel.directory, "adapters");
    return {
      modelDirectory: embeddedModel.directory,
      modelName: embeddedModel.name,
      adaptersDirectory: options.adapters ?? demoAdapters,
      quantize: options.quantize === "auto" ? embeddedModel.quantize : options.quantize,
      embedded: true,
    };
  }
  const quantize = options.quantize === "auto" ? "int4" : options.quantize;
  const shared = { adaptersDirectory: options.adapters, quantize, embedded: false };
  if (await isDirectory(options.model)) {
    const modelDirectory = resolve(options.model);
    return { ...shared, modelDirectory, modelName: basename(modelDirectory) };
  }
  if (looksLikePath(options.model)) {
    throw new UsageError(
      "model_not_found",
      `--model ${options.model}: no such directory, nor a name org/name`,
    );
  }
  const modelDirectory = await downloadModel(options.model, {
    cacheDirectory: options.cache,
    endpoint: (context.environment.HF_ENDPOINT ?? publicHub).replace(/\/$/, ""),
    token: context.environment.HF_TOKEN,
    onProgress: context.onProgress,
    onOffline: context.say,
    signal: context.signal,
  });
  return { ...shared, modelDirectory, modelName: parseModelReference(options.model).name };
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}
