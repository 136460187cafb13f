// The part of the OpenAI-compatible API that `cotenant finetune` uses. What the server refuses is thrown with its own
// words. Knows no terminal.

import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { basename } from "node:path";
import { z } from "zod";
import { CotenantError } from "../../kernels/errors.ts";

const jobSchema = z.object({
  id: z.string(),
  status: z.enum(["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]),
  fine_tuned_model: z.string().nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
});
export type Job = z.output<typeof jobSchema>;
export type JobChange = "cancel" | "pause" | "resume";

const finite = z.number().nullish();
const eventSchema = z.object({
  id: z.string(),
  created_at: z.int(), // Unix time in seconds
  level: z.enum(["info", "warn", "error"]),
  message: z.string(),
  type: z.enum(["message", "metrics"]),
  data: z.object({
    step: z.int().nullish(),
    total_steps: z.int().nullish(),
    train_loss: finite,
    valid_loss: finite,
    tokens: z.int().nullish(),
  }),
});
export type TrainingEvent = z.output<typeof eventSchema>;

const fileSchema = z.object({ id: z.string() });
const modelsSchema = z.object({ data: z.array(z.object({ id: z.string(), parent: z.string().nullable() })) });
const failureSchema = z.object({ error: z.object({ code: z.string(), message: z.string() }) });

/** The server refused, or could not be reached; `isPassing` where the same may work later. */
export class ServerError extends CotenantError {
  readonly isPassing: boolean;

  constructor({ code, message }: { readonly code: string; readonly message: string }, isPassing: boolean) {
    super(code, message);
    this.isPassing = isPassing;
  }
}

const passingCodes = new Set(["server_closing", "not_ready", "engine_restarting"]);

export class ServerClient {
  readonly url: string;
  readonly #key: string | null;

  /** @param url of the server, with or without /v1 */
  constructor(url: string, key: string | null) {
    this.url = url.replace(/\/+$/, "").replace(/\/v1$/, "");
    this.#key = key;
  }

  /** Returns the file's id. The content is read from the disk as it is sent. */
  async upload(path: string, signal: AbortSignal): Promise<string> {
    const boundary = randomUUID();
    const headers = { "content-type": `multipart/form-data; boundary=${boundary}` };
    const body = ReadableStream.from(formOf(path, boundary));
    const init = { method: "POST", headers, body, duplex: "half" as const, signal };
    return (await this.#json("/v1/files", init, fileSchema)).id;
  }

  async deleteFile(id: string): Promise<void> {
    await this.#json(`/v1/files/${encodeURIComponent(id)}`, { method: "DELETE" }, z.unknown());
  }

  /** The base's name. */
  async baseName(signal: AbortSignal): Promise<string> {
    const { data } = await this.#json("/v1/models", { signal }, modelsSchema);
    const base = data.find(({ parent }) => parent === null);
    if (base === undefined) throw this.#strangeAnswer();
    return base.id;
  }

  createJob(request: object): Promise<Job> {
    const headers = { "content-type": "application/json" };
    return this.#json(jobsPath, { method: "POST", headers, body: JSON.stringify(request) }, jobSchema);
  }

  job(id: string, signal: AbortSignal): Promise<Job> {
    return this.#json(pathOf(id), { signal }, jobSchema);
  }

  change(id: string, action: JobChange): Promise<Job> {
    return this.#json(`${pathOf(id)}/${action}`, { method: "POST" }, jobSchema);
  }

  /** From the first event on; ends when the job is over. Throws a passing ServerError where the connection is lost. */
  async *events(id: string, signal: AbortSignal): AsyncGenerator<TrainingEvent> {
    const response = await this.#send(`${pathOf(id)}/events?stream=true`, { signal });
    for await (const data of eventData(response.body!, (cause) => this.#unreachable(cause))) {
      if (data === "[DONE]") return;
      const content: unknown = JSON.parse(data);
      const failure = failureSchema.safeParse(content);
      if (failure.success) throw refusal(failure.data, null);
      yield this.#parsed(content, eventSchema);
    }
    throw this.#unreachable(null);
  }

  async #json<Schema extends z.ZodType>(
    path: string,
    init: RequestInit,
    schema: Schema,
  ): Promise<z.output<Schema>> {
    const response = await this.#send(path, init);
    const content: unknown = await response.json().catch((cause: unknown) => {
      throw cause instanceof SyntaxError ? this.#strangeAnswer() : this.#unreachable(cause);
    });
    return this.#parsed(content, schema);
  }

  #parsed<Schema extends z.ZodType>(content: unknown, schema: Schema): z.output<Schema> {
    const parsed = schema.safeParse(content);
    if (!parsed.success) throw this.#strangeAnswer();
    return parsed.data;
  }

  async #send(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.#key !== null) headers.set("authorization", `Bearer ${this.#key}`);
    const response = await fetch(`${this.url}${path}`, { ...init, headers }).catch((cause: unknown) => {
      throw init.signal?.aborted ? cause : this.#unreachable(cause);
    });
    if (response.ok) return response;
    const failure = failureSchema.safeParse(await response.json().catch(() => null));
    if (failure.success) throw refusal(failure.data, response.status);
    throw this.#strangeAnswer(response.status);
  }

  #unreachable(cause: unknown): ServerError {
    const reason = reasonOf(cause);
    const problem = `no answer from ${this.url}${reason === null ? "" : ` (${reason})`}`;
    const message = `${problem}; start a server (cotenant serve), or give its address with --server URL`;
    return new ServerError({ code: "server_unreachable", message }, true);
  }

  #strangeAnswer(status = 200): ServerError {
    const message = `${this.url} answered (${status}) what a cotenant server does not; check --server URL`;
    return new ServerError({ code: "strange_answer", message }, status >= 500);
  }
}

/** Not FormData: aborting the upload of one that has a Blob throws where nobody can catch it (Node 24). */
async function* formOf(path: string, boundary: string): AsyncGenerator<Uint8Array> {
  const name = basename(path).replaceAll(/["\r\n]/g, encodeURIComponent); // as browsers write it
  const part = (disposition: string) =>
    `--${boundary}\r\ncontent-disposition: form-data; ${disposition}\r\n\r\n`;
  yield Buffer.from(`${part('name="purpose"')}fine-tune\r\n${part(`name="file"; filename="${name}"`)}`);
  yield* createReadStream(path);
  yield Buffer.from(`\r\n--${boundary}--\r\n`);
}

const jobsPath = "/v1/fine_tuning/jobs";

function pathOf(id: string): string {
  return `${jobsPath}/${encodeURIComponent(id)}`;
}

/** @param status null within a stream, which had begun well */
function refusal({ error }: z.output<typeof failureSchema>, status: number | null): ServerError {
  const isBusy = status !== null && (status === 429 || status >= 500);
  return new ServerError(error, isBusy || passingCodes.has(error.code));
}

/** What fetch says is "fetch failed"; why is in its cause. */
function reasonOf(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const cause = error.cause instanceof Error ? error.cause : error;
  return "code" in cause ? String(cause.code) : cause.message;
}

/** The data of server-sent events, which are lines here: a server writes each event's JSON on one. */
async function* eventData(
  body: ReadableStream<Uint8Array>,
  lost: (cause: unknown) => ServerError,
): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for await (const bytes of body) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop()!;
      for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  } catch (cause) {
    throw lost(cause);
  }
}
