// One streamed completion, timed chunk by chunk. Uses OpenAI's fields only, unless vLLM's are allowed.

import { type Answer, type HttpClient, textOf } from "./http-client.ts";
import { promptText } from "./prompt-text.ts";
import type { Outcome, RequestRecord } from "./request-record.ts";
import { SseParser } from "./sse-parser.ts";
import type { PlannedRequest, Stream } from "./workload.ts";

export const endpointPaths = { completions: "/v1/completions", chat: "/v1/chat/completions" } as const;
export type Endpoint = keyof typeof endpointPaths;

export function promptFields(prompt: string, endpoint: Endpoint) {
  return endpoint === "chat" ? { messages: [{ role: "user", content: prompt }] } : { prompt };
}

/** How requests look on the wire, the same for all of a run. */
export type RequestShape = {
  readonly endpoint: Endpoint;
  readonly vllmFields: boolean; // ignore_eos: answers have the planned length
  readonly tokensPerWord: number;
  /** Fields that requests to a model have beside these, or instead: how a peer is told of an adapter. */
  readonly modelFields?: Readonly<Record<string, object>>;
};

export type Sender = {
  readonly client: HttpClient;
  readonly shape: RequestShape;
  readonly nowMs: () => number; // the phase's clock
  readonly signal: AbortSignal; // the end of the drain
  readonly onChunk: () => void;
};

export type SentAs = Pick<Stream, "tenant" | "key"> & { readonly stream: number; readonly dueMs: number };

/** Never rejects: what goes wrong is the record's outcome. */
export async function sendRequest(
  planned: PlannedRequest,
  { tenant, key, stream, dueMs }: SentAs,
  { client, shape, nowMs, signal, onChunk }: Sender,
): Promise<RequestRecord> {
  const sentMs = nowMs();
  const cancel = new AbortController();
  const timer =
    planned.cancelAfterMs === null ? undefined : setTimeout(() => cancel.abort(), planned.cancelAfterMs);
  const reading = new Reading(() => {
    onChunk();
    return nowMs();
  });
  let end: { outcome: Outcome; error: string | null };
  try {
    const answer = await client.send({
      method: "POST",
      path: endpointPaths[shape.endpoint],
      key,
      body: requestBody(planned, shape),
      signal: AbortSignal.any([signal, cancel.signal]),
    });
    end = await reading.read(answer);
  } catch (error) {
    if (signal.aborted) end = { outcome: "unfinished", error: null };
    else if (cancel.signal.aborted) end = { outcome: "cancelled", error: null };
    else end = { outcome: "failed", error: connectionError(error) };
  }
  clearTimeout(timer);
  const endedMs = nowMs();
  const result = { stream, tenant, model: planned.model, dueMs, sentMs, endedMs };
  return { ...result, ...reading.result(), ...end };
}

export function requestBody(planned: PlannedRequest, shape: RequestShape) {
  const { endpoint, vllmFields, tokensPerWord, modelFields } = shape;
  const prompt = promptText(planned.promptTokens, tokensPerWord, planned.seed);
  return {
    model: planned.model,
    ...promptFields(prompt, endpoint),
    max_tokens: planned.outputTokens,
    temperature: 1,
    seed: planned.seed,
    stream: true,
    stream_options: { include_usage: true },
    ...(vllmFields ? { ignore_eos: true } : {}),
    ...modelFields?.[planned.model],
  };
}

type StreamedChunk = {
  readonly choices?: readonly {
    readonly text?: string;
    readonly delta?: Readonly<Record<string, unknown>>;
  }[];
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number } | null;
  readonly error?: { readonly code?: string | number | null; readonly type?: string };
};

/** Follows one answer to its end. */
class Reading {
  readonly #onChunk: () => number;
  readonly #chunkMs: number[] = [];
  #usage: StreamedChunk["usage"] = null;
  #error: string | null = null;
  #isDone = false;

  constructor(onChunk: () => number) {
    this.#onChunk = onChunk;
  }

  async read({ status, chunks }: Answer): Promise<{ outcome: Outcome; error: string | null }> {
    if (status !== 200) {
      const body = await textOf(chunks).catch(() => ""); // a refusal stays one if its client leaves while it is read
      return { outcome: "failed", error: `${status} ${errorCode(body)}` };
    }
    const parser = new SseParser();
    for await (const bytes of chunks) {
      for (const data of parser.push(bytes)) this.#event(data);
    }
    if (this.#error !== null) return { outcome: "failed", error: this.#error };
    return this.#isDone
      ? { outcome: "finished", error: null }
      : { outcome: "failed", error: "stream broke off" };
  }

  result(): Pick<RequestRecord, "chunkMs" | "promptTokens" | "outputTokens"> {
    return {
      chunkMs: Float64Array.from(this.#chunkMs),
      promptTokens: this.#usage?.prompt_tokens ?? null,
      outputTokens: this.#usage?.completion_tokens ?? this.#chunkMs.length,
    };
  }

  #event(data: string): void {
    if (data === "[DONE]") {
      this.#isDone = true;
      return;
    }
    const chunk = JSON.parse(data) as StreamedChunk;
    if (chunk.error) this.#error = `stream error ${chunk.error.code ?? chunk.error.type ?? "unknown"}`;
    if (chunk.usage) this.#usage = chunk.usage;
    if (chunk.choices?.some(hasText)) this.#chunkMs.push(this.#onChunk());
  }
}

function hasText({ text, delta }: NonNullable<StreamedChunk["choices"]>[number]): boolean {
  if (text) return true;
  return Object.entries(delta ?? {}).some(([name, value]) => name !== "role" && Boolean(value));
}

/** OpenAI's `error.code`; else its type, else nothing: bodies of other servers' errors vary. */
function errorCode(body: string): string {
  try {
    const { error } = JSON.parse(body) as { error?: { code?: unknown; type?: unknown } };
    return String(error?.code ?? error?.type ?? "");
  } catch {
    return "";
  }
}

function connectionError(error: unknown): string {
  const { code, name } = error as { code?: string; name?: string };
  return code ?? name ?? "unknown failure";
}
