// The real application and the real text of models/tiny over an engine that plays a script: for tests of what
// HTTP and text do with given tokens. End-to-end tests use start-tiny.ts.

import { randomUUID } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Allowance } from "../../adapters-store/allowance.ts";
import type { Name, StoredAdapter } from "../../adapters-store/store.ts";
import { projections } from "../../kernels/adapter.ts";
import type { Engine } from "../../scheduler/engine.ts";
import {
  type GenerationEvent,
  type GenerationRequest,
  idleStats,
  type ServedModel,
} from "../../scheduler/protocol.ts";
import { defaultScheduling } from "../../scheduler/scheduling-options.ts";
import { type App, createApp } from "../../server/app.ts";
import { bodyAllowance } from "../../server/body-budget.ts";
import { Compositions } from "../../server/composition.ts";
import type { ServerContext, Serving } from "../../server/context.ts";
import type { CompletionAnswer } from "../../server/endpoints/completions-contract.ts";
import { EncodingTurns } from "../../server/finetuning/encoding-turns.ts";
import { openJobStore } from "../../server/finetuning/job-store.ts";
import { LossPlots } from "../../server/finetuning/loss-plots.ts";
import { openJobs } from "../../server/finetuning/open-jobs.ts";
import { SeedLedgers } from "../../server/finetuning/seed-ledgers.ts";
import { TrainingFiles } from "../../server/finetuning/training-files.ts";
import { answerAllowance } from "../../server/generation/answer-budget.ts";
import { RunningRequests } from "../../server/generation/running-requests.ts";
import type { ErrorBody } from "../../server/http-error.ts";
import { createLogger, type Logger } from "../../server/logger.ts";
import type { MemoryPlan } from "../../server/memory-plan.ts";
import { Metrics } from "../../server/metrics.ts";
import { Readiness } from "../../server/readiness.ts";
import { ServedAdapters, type ServedAdaptersOptions } from "../../server/served-adapters.ts";
import { type Keyring, openToAll } from "../../server/tenancy/keyring.ts";
import { RateLimits } from "../../server/tenancy/rate-limits.ts";
import { loadTextParts } from "../../server/text/load-text.ts";
import { TextModel } from "../../server/text/text-model.ts";
import { UploadRoom } from "../../server/upload-room.ts";
import { openUsageLedger } from "../../server/usage/ledger.ts";

const scriptedMemory = {
  planBytes: 1,
  limitBytes: 2,
  hostCacheBytes: 1,
  parts: {},
  device: null,
} as MemoryPlan;

export const tinyDirectory = fileURLToPath(new URL("../../models/tiny", import.meta.url));

export type Script = (request: GenerationRequest, signal: AbortSignal) => AsyncIterable<GenerationEvent>;

export type ScriptedApp = {
  readonly app: App;
  readonly admin: App; // the admin listener's
  readonly context: ServerContext;
  readonly adapters: ServedAdapters;
  readonly text: TextModel;
  readonly readiness: Readiness<Serving>;
  readonly requests: readonly GenerationRequest[]; // what the engine was asked
  readonly post: (path: string, body: unknown, init?: RequestInit) => Promise<Response>;
};

export type ScriptedOptions = {
  readonly text?: TextModel;
  readonly keyring?: Keyring; // default: no keys
  readonly refusesWebPages?: boolean;
  readonly logger?: Logger;
  readonly store?: ServedAdaptersOptions["store"]; // default: a scripted one, which keeps what is uploaded
  readonly loraDirectory?: string;
  readonly bodies?: Allowance;
  readonly answers?: Allowance;
  readonly filesDirectory?: string; // of training files; default: one that nobody removes
};

/** An adapter as a store might hand it out; tenant default's are shared. */
export function scriptedVersion(owner: string, id: string): StoredAdapter {
  const modulesMatched = { count: 1, names: ["q: layers 0"] };
  return {
    owner,
    id,
    version: `${owner}:${id}@1`,
    format: "peft",
    summary: {
      kinds: ["low-rank"],
      ranks: null,
      modulesMatched,
      modulesUnmatched: [],
      sizeBytes: 1,
      decodedBytes: 1,
    },
    sizeBytes: 1,
    uploadedBytes: 1,
    uploadedBy: owner,
    filesIgnored: [],
    metadata: {},
    lineage: null,
    createdAtMs: 0,
    location: `/adapters of ${owner}/${id}`,
    pinned: false,
    shared: owner === "default",
    expiresAtMs: null,
  };
}

export const finished = (reason: "stop" | "length", stopTokenId: number | null = null): GenerationEvent => ({
  type: "finished",
  reason,
  stopTokenId,
  timing: { queuedMs: 0, prefillMs: 1, decodeMs: 1 },
});

const unscripted = () => Promise.reject(new Error("nothing is scripted"));

function scriptedStore(): ServedAdaptersOptions["store"] {
  const stored = new Map<string, StoredAdapter>();
  const get = ({ owner, id }: Name) => stored.get(`${owner} ${id}`);
  return {
    add: async ({ owner, id }) => {
      const added = scriptedVersion(owner, id);
      stored.set(`${owner} ${id}`, added);
      return added;
    },
    decode: async () => ({ modules: [] }),
    get,
    find: get,
    usage: () => ({ adapters: 0, versions: 0, sizeBytes: 0 }),
    list: () => ({ adapters: [...stored.values()], next: null }),
    versions: (name) => [get(name)!],
    isNamed: (version) => [...stored.values()].some((each) => each.version === version),
    hasVersion: () => false,
    delete: unscripted,
    deleteVersion: unscripted,
    expire: unscripted,
    forget: unscripted,
    moveAlias: unscripted,
    setPinned: unscripted,
  };
}

/** A script that writes a text, token by token, and ends as the model would. */
export function writes(text: TextModel, output: string): Script {
  return async function* (request) {
    const tokenIds = text.tokenizer.encode(output, { addSpecialTokens: false }).slice(0, request.maxTokens);
    for (const tokenId of tokenIds) yield { type: "token", tokenId, logprob: null };
    yield finished("stop", 2);
  };
}

export async function scriptedApp(
  script: (text: TextModel) => Script,
  options: ScriptedOptions = {},
): Promise<ScriptedApp> {
  const text = options.text ?? new TextModel(await loadTextParts(tinyDirectory));
  const requests: GenerationRequest[] = [];
  const play = script(text);
  const engine: Engine = {
    model,
    stats: idleStats,
    failure: new Promise(() => {}),
    async *generate(request, signal) {
      requests.push(request);
      yield* play(request, signal ?? new AbortController().signal);
    },
    async *train() {
      await new Promise(() => {});
    },
    pauseTraining: () => {},
    addAdapter: async () => {},
    removeAdapter: async () => {},
    close: async () => {},
  };
  const readiness = new Readiness<Serving>();
  const logger = options.logger ?? createLogger("silent");
  const usage = openUsageLedger({ path: ":memory:", logger });
  const context: ServerContext = {
    baseName: "tiny",
    readiness,
    keyring: options.keyring ?? openToAll,
    refusesWebPages: options.refusesWebPages ?? false, // requests that go past sockets have no Host
    limits: new RateLimits({ tokensSince: (tenantId, seconds) => usage.tokensSince(tenantId, seconds) }),
    requests: new RunningRequests(),
    bodies: options.bodies ?? bodyAllowance(1 / 4),
    answers: options.answers ?? answerAllowance(1 / 4),
    metrics: new Metrics({ baseName: "tiny", source: () => null }),
    memory: scriptedMemory,
    logger,
    startedAtSeconds: 0,
    packageVersion: "0.0.0",
  };
  const app = createApp(context);
  const { store = scriptedStore(), loraDirectory = null } = options;
  const adapters = new ServedAdapters({ store, engine, baseName: "tiny", hostCacheBytes: 1 << 20 });
  const uploadDirectory = join(tmpdir(), "cotenant-scripted");
  const { filesDirectory = join(uploadDirectory, randomUUID()) } = options;
  const trainingFiles = await TrainingFiles.open(filesDirectory, { isUsed: () => null });
  const jobSources = { files: trainingFiles, text, model, adapters: store, encodings: new EncodingTurns() };
  const jobs = openJobs({
    engine,
    store: openJobStore({ path: ":memory:", baseFingerprint: model.fingerprint, logger }),
    sources: jobSources,
    adapters,
    ledgers: new SeedLedgers(uploadDirectory, { targets: model.targets, ownerOf: () => null }),
    memoryBytes: defaultScheduling.trainingMemoryBytes,
    directory: join(uploadDirectory, randomUUID()),
    scratchDirectory: uploadDirectory,
    metrics: context.metrics.jobs,
    logger,
  });
  const deriver = {
    compose: async () => ({ modules: [] }),
    compress: () => Promise.reject(new Error("nothing is scripted")),
    merge: () => Promise.reject(new Error("nothing is scripted")),
  };
  const adaptersOf: Serving["adaptersOf"] = (tenant) => adapters.of(tenant);
  readiness.transition({
    name: "ready",
    serving: {
      engine,
      text,
      adaptersOf,
      allAdapters: adapters,
      compositions: new Compositions({ derived: adapters.derived, deriver, layers: model.layers }),
      deriver,
      derived: adapters.derived,
      usage,
      baseRoot: "tiny",
      trainingFiles,
      jobs,
      jobSources,
      lossPlots: new LossPlots(),
      trainingMemoryBytes: defaultScheduling.trainingMemoryBytes,
      uploads: new UploadRoom(uploadDirectory),
      adapterFiles: { open: unscripted },
      loraDirectory,
    },
  });
  const post = async (path: string, body: unknown, init: RequestInit = {}) =>
    app.request(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
      ...init,
    });
  const admin = createApp(context, "admin");
  return { app, admin, context, adapters, text, readiness, requests, post };
}

export async function completionOf(response: Response): Promise<CompletionAnswer> {
  return (await response.json()) as CompletionAnswer;
}

export async function errorOf(response: Response): Promise<ErrorBody["error"]> {
  return ((await response.json()) as ErrorBody).error;
}

/** The objects of a server-sent event stream; `[DONE]` stays a string. */
export async function readEvents(response: Response): Promise<unknown[]> {
  const lines = (await response.text()).split("\n\n").filter((line) => line !== "");
  return lines.map((line) => {
    const data = line.replace(/^data: /, "");
    return data === "[DONE]" ? data : JSON.parse(data);
  });
}

const shape = { in: 8, out: 8 };

const model: ServedModel = {
  family: "llama",
  device: "cpu",
  deviceNote: "",
  quantization: "none",
  fingerprint: "0123456789abcdef",
  vocabSize: 2048,
  layers: 1,
  maxContext: 1024,
  maxRows: 4,
  maxQueue: 2048,
  eosTokenIds: [2],
  targets: {
    layers: 1,
    shapes: Object.fromEntries(projections.map((projection) => [projection, shape])) as Record<
      (typeof projections)[number],
      typeof shape
    >,
    hiddenSize: shape.in,
    vocabSize: 2048,
    kvHeads: 1,
    headDim: shape.out,
  },
  untrainable: null,
  trainingPrecisions: ["float32", "int8"],
  trainingBaseBytes: 0,
};
