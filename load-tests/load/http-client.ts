// The connection to the server under test, and the only file here that imports undici. No time limits of its own:
// a slow answer is a measurement. Knows no workload.

import { FormData, Pool } from "undici";

export type Call = {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly key: string | null;
  readonly body?: object; // sent as JSON
  readonly form?: FormData;
  readonly signal?: AbortSignal;
};

export type Answer = { readonly status: number; readonly chunks: AsyncIterable<Uint8Array> };

export class HttpClient implements AsyncDisposable {
  readonly #pool: Pool;
  readonly #prefix: string;

  constructor(url: string) {
    const { origin, pathname } = new URL(url);
    this.#prefix = pathname.replace(/\/(v1\/?)?$/, "");
    // As many connections as there are requests: one that waits for another would be the client's queue.
    this.#pool = new Pool(origin, { connections: null, pipelining: 1, headersTimeout: 0, bodyTimeout: 0 });
  }

  async send({ method, path, key, body, form, signal }: Call): Promise<Answer> {
    const answer = await this.#pool.request({
      method,
      path: this.#prefix + path,
      headers: {
        ...(key === null ? {} : { authorization: `Bearer ${key}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      body: form ?? (body === undefined ? null : JSON.stringify(body)),
      ...(signal === undefined ? {} : { signal }),
    });
    return { status: answer.statusCode, chunks: answer.body };
  }

  async text(call: Call): Promise<{ readonly status: number; readonly text: string }> {
    const { status, chunks } = await this.send(call);
    return { status, text: await textOf(chunks) };
  }

  /** Throws UnexpectedAnswerError on any other status than 2xx. */
  async json(call: Call): Promise<unknown> {
    const { status, text } = await this.text(call);
    if (status >= 200 && status < 300) return JSON.parse(text);
    throw new UnexpectedAnswerError(call, status, text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool.destroy();
  }
}

export class UnexpectedAnswerError extends Error {
  readonly status: number;

  constructor({ method, path }: Call, status: number, text: string) {
    super(`${method} ${path} answered ${status}: ${text.slice(0, 500)}`);
    this.status = status;
  }
}

export async function textOf(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts).toString("utf8");
}

/** A multipart body: plain fields and files. */
export function formOf(
  fields: Readonly<Record<string, string>>,
  files: readonly { readonly field: string; readonly name: string; readonly bytes: Uint8Array }[],
): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  for (const { field, name, bytes } of files) form.append(field, new Blob([Uint8Array.from(bytes)]), name);
  return form;
}
