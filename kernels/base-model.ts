// Opens a checkpoint directory: config, weights prepared into the cache, embeddings, the session over the graph.

import { createHash } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import type { GraphFeatures } from "./adapter-sites.ts";
import { hasPlainGraph, matrixBytes } from "./base-memory.ts";
import { fingerprintCheckpoint } from "./checkpoint/fingerprint.ts";
import { openCheckpointWeights } from "./checkpoint/weights.ts";
import { Embeddings } from "./embeddings.ts";
import { CheckpointError, CotenantError } from "./errors.ts";
import { buildForwardGraph } from "./forward-graph.ts";
import { type ModelConfig, RawConfig } from "./model-config.ts";
import { familyOf } from "./models/index.ts";
import { type MatrixEncoding, type PreparedLayout, planLayout } from "./prepare/layout.ts";
import { dataFileName, prepareWeights } from "./prepare/prepare-weights.ts";
import { Session } from "./session.ts";

export type BaseModelOptions = {
  readonly modelDirectory: string;
  readonly cacheDirectory: string;
  readonly encoding: MatrixEncoding;
  readonly threads: number; // 0 = all cores
  /** Matrices of at most so many bytes are in memory twice, for a session without adapters. */
  readonly plainGraphBytes?: number | undefined;
  readonly onProgress: (stage: string, done: number, total: number) => void;
  readonly profilePrefix?: string; // of the session's profile; the plain one's begins with `plainProfile` of it
};

export const plainProfile = (prefix: string) => `${prefix}-plain`;

export class BaseModel {
  readonly config: ModelConfig;
  readonly fingerprint: string;
  readonly eosTokenIds: readonly number[];
  readonly embeddings: Embeddings;
  readonly layout: PreparedLayout;
  readonly dataPath: string; // of the prepared weights
  /** Of the graph without adapters, whose nodes cost a small base up to a third of a step in which nobody has one. */
  readonly plainSession: Session | null;
  /** Rejected where the graph could not be built anew: without a session nothing can be computed any more. */
  readonly failure: Promise<never>;
  readonly #fail: (reason: unknown) => void;
  readonly #openSession: (features: GraphFeatures) => Promise<Session>;
  #features: GraphFeatures = new Set();
  #session: Session;

  private constructor(parts: BaseModelParts, session: Session, plainSession: Session | null) {
    this.config = parts.config;
    this.fingerprint = parts.fingerprint;
    this.eosTokenIds = parts.eosTokenIds;
    this.embeddings = parts.embeddings;
    this.layout = parts.layout;
    this.dataPath = parts.dataPath;
    this.#openSession = parts.openSession;
    this.#session = session;
    this.plainSession = plainSession;
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => {}); // not everybody who opens a base waits for its end
    this.failure = promise;
    this.#fail = reject;
  }

  static async open(parts: BaseModelParts): Promise<BaseModel> {
    const session = await parts.openSession(new Set());
    return new BaseModel(parts, session, parts.hasPlainSession ? await parts.openSession(null) : null);
  }

  async close(): Promise<void> {
    await this.#session.close();
    await this.plainSession?.close();
  }

  /** Changes when the graph grows: take it anew for each run. */
  get session(): Session {
    return this.#session;
  }

  get features(): GraphFeatures {
    return this.#features;
  }

  /**
   * Builds the graph anew where it lacks some of the features. The former session goes first, so that the weights
   * are never in memory twice; no run may be under way. Takes about as long as the session took at the start.
   */
  async offer(features: GraphFeatures): Promise<void> {
    if ([...features].every((feature) => this.#features.has(feature))) return;
    const grown = new Set([...this.#features, ...features]);
    try {
      await this.#session.close();
      this.#session = await this.#openSession(grown);
    } catch (cause) {
      const lacking = [...grown].join(", ");
      const error = new CotenantError(
        "graph_not_opened",
        `the base's graph could not be opened anew for adapters with ${lacking}: ${cause instanceof Error ? cause.message : cause}; free memory, or look whether --cache is still there`,
        { cause },
      );
      this.#fail(error);
      throw error;
    }
    this.#features = grown;
  }
}

type BaseModelParts = Pick<
  BaseModel,
  "config" | "fingerprint" | "eosTokenIds" | "embeddings" | "layout" | "dataPath"
> & {
  readonly hasPlainSession?: boolean;
  /** Null is the graph without adapters. */
  readonly openSession: (features: GraphFeatures | null) => Promise<Session>;
};

/** Part of the cache key: raised when the data file's content changes for the same checkpoint. */
const layoutVersion = 3;

export type CheckpointDescription = { readonly config: ModelConfig; readonly eosTokenIds: readonly number[] };

/** Reads config.json and generation_config.json only. */
export function describeCheckpoint(modelDirectory: string): CheckpointDescription {
  const { raw, family } = readConfig(modelDirectory);
  return { config: family.config(raw), eosTokenIds: readEosTokenIds(modelDirectory) };
}

export async function openBaseModel(options: BaseModelOptions): Promise<BaseModel> {
  const prepared = await prepareBase(options);
  const { config, layout } = prepared;
  const { profilePrefix: prefix } = options;
  return BaseModel.open({
    ...prepared,
    hasPlainSession: hasPlainGraph(matrixBytes({ ...options, config }), options),
    openSession: (features) => {
      const graph = buildForwardGraph({ config, layout, dataFile: dataFileName, features });
      const profile = features === null && prefix !== undefined ? plainProfile(prefix) : prefix;
      return Session.open({
        modelPath: writeGraph(prepared, graph),
        threads: threadsOf(options),
        ...(profile === undefined ? {} : { profilePrefix: profile }),
      });
    },
  });
}

function threadsOf({ threads }: BaseModelOptions): number {
  return threads === 0 ? availableParallelism() : threads;
}

/** What every device needs of a checkpoint: all but a session. */
export type PreparedBase = Omit<BaseModelParts, "openSession" | "hasPlainSession">;

export async function prepareBase(options: BaseModelOptions): Promise<PreparedBase> {
  const { modelDirectory, cacheDirectory, encoding, onProgress } = options;
  const { raw, family } = readConfig(modelDirectory);
  const config = family.config(raw);
  const layers = Array.from({ length: config.layers }, (_, index) => family.layer(config, index, raw));
  const layout = planLayout({ config, normOffset: family.normOffset, layers, encoding });
  using weights = openCheckpointWeights(modelDirectory); // a bad header is refused before anything is hashed
  const fingerprint = fingerprintCheckpoint({
    directory: modelDirectory,
    cacheDirectory,
    onProgress: (done, total) => onProgress("hashing", done, total),
  });
  const directory = await prepareWeights({
    modelDirectory,
    cacheDirectory,
    key: `${fingerprint.slice(0, 32)}-${encoding}-v${layoutVersion}`,
    layout,
    threads: threadsOf(options),
    onProgress: (done, total) => onProgress("preparing weights", done, total),
  });
  return {
    config,
    fingerprint,
    eosTokenIds: readEosTokenIds(modelDirectory),
    embeddings: new Embeddings(weights, config),
    layout,
    dataPath: join(directory, dataFileName),
  };
}

/** The graph must lie beside its data file; it is named by content, so that versions and processes never mix. */
export function writeGraph({ dataPath }: Pick<PreparedBase, "dataPath">, model: Uint8Array): string {
  const hash = createHash("sha256").update(model).digest("hex").slice(0, 16);
  const path = join(dirname(dataPath), `graph-${hash}.onnx`);
  if (!existsSync(path)) {
    const unfinished = `${path}.${process.pid}.partial`;
    writeFileSync(unfinished, model);
    renameSync(unfinished, path);
  }
  return path;
}

function readConfig(modelDirectory: string) {
  const path = join(modelDirectory, "config.json");
  const raw = new RawConfig(readJson(path), path);
  return { raw, family: familyOf(raw.string("model_type")) };
}

/** generation_config.json's list where there is one, else config.json's. */
function readEosTokenIds(modelDirectory: string): number[] {
  for (const name of ["generation_config.json", "config.json"]) {
    const path = join(modelDirectory, name);
    if (!existsSync(path)) continue;
    const ids = (readJson(path) as { eos_token_id?: unknown }).eos_token_id;
    if (typeof ids === "number") return [ids];
    if (Array.isArray(ids) && ids.every((id) => typeof id === "number")) return ids;
  }
  return [];
}

function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new CheckpointError(
      "checkpoint_unreadable",
      `${path} cannot be read; give --model a Hugging Face checkpoint directory (config.json, *.safetensors, tokenizer.json)`,
      { cause },
    );
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CheckpointError("bad_config", `${path} is not valid JSON; download it again`, { cause });
  }
}
