// The real application and the real text of models/tiny over an engine that plays a script: for tests of what
// HTTP and text do with given tokens. End-to-end tests use start-tiny.ts.

import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { projections } from "../../kernels/adapter.ts";
import type { Engine } from "../../scheduler/engine.ts";
import {
  type GenerationEvent,
  type GenerationRequest,
  idleStats,
  type ServedModel,
} from "../../scheduler/protocol.ts";
import { type App, createApp } from "../../server/app.ts";
import type { Serving } from "../../server/context.ts";
import type { CompletionAnswer } from "../../server/endpoints/completions-contract.ts";
import type { ErrorBody } from "../../server/http-error.ts";
import { createLogger } from "../../server/logger.ts";
import { Metrics } from "../../server/metrics.ts";
import { Readiness } from "../../server/readiness.ts";
import { ServedAdapters } from "../../server/served-adapters.ts";
import { loadTextParts } from "../../server/text/load-text.ts";
import { TextModel } from "../../server/text/text-model.ts";

export const tinyDirectory = fileURLToPath(new URL("../../models/tiny", import.meta.url));

export type Script = (request: GenerationRequest, signal: AbortSignal) => AsyncIterable<GenerationEvent>;

export type ScriptedApp = {
  readonly app: App;
  readonly text: TextModel;
  readonly readiness: Readiness<Serving>;
  readonly requests: readonly GenerationRequest[]; // what the engine was asked
  readonly post: (path: string, body: unknown, init?: RequestInit) => Promise<Response>;
};

export type ScriptedOptions = { readonly text?: TextModel };

export const finished = (reason: "stop" | "length", stopTokenId: number | null = null): GenerationEvent => ({
  type: "finished",
  reason,
  stopTokenId,
  timing: { queuedMs: 0, prefillMs: 1, decodeMs: 1 },
});

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
    addAdapter: async () => {},
    removeAdapter: async () => {},
    close: async () => {},
  };
  const readiness = new Readiness<Serving>();
  const context = {
    baseName: "tiny",
    readiness,
    metrics: new Metrics({ baseName: "tiny", source: () => null }),
    logger: createLogger("silent"),
    startedAtSeconds: 0,
    packageVersion: "0.0.0",
  };
  const app = createApp(context);
  const store = {
    add: () => Promise.reject(new Error("not scripted")),
    decode: async () => ({ modules: [] }),
  };
  const adapters = new ServedAdapters({ store, engine, baseName: "tiny" });
  const uploadDirectory = join(tmpdir(), "cotenant-scripted");
  readiness.transition({
    name: "ready",
    serving: { engine, text, adapters, baseRoot: "tiny", uploadDirectory },
  });
  const post = async (path: string, body: unknown, init: RequestInit = {}) =>
    app.request(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
      ...init,
    });
  return { app, text, readiness, requests, post };
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
  quantization: "none",
  fingerprint: "0123456789abcdef",
  vocabSize: 2048,
  layers: 1,
  maxContext: 1024,
  maxRows: 4,
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
};
