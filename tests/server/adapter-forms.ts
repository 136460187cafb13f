// For tests: uploads and other calls of the adapters' routes over HTTP, and what they answer.

import { createReadStream, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import type { AdapterAnswer } from "../../server/endpoints/adapters/adapter-answer.ts";

export type NamedContent = { readonly name: string; readonly content: Uint8Array };

/** The files of a PEFT directory, and nothing else that may lie there. */
export function peftFiles(directory: string): NamedContent[] {
  const names = readdirSync(directory).filter((name) => name.startsWith("adapter_"));
  return names.map((name) => ({ name, content: readFileSync(join(directory, name)) }));
}

export function fileOf(path: string): Promise<Buffer> {
  return buffer(createReadStream(path));
}

export function formOf(fields: Readonly<Record<string, string>>, files: readonly NamedContent[]): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  for (const { name, content } of files) form.append("files", new Blob([new Uint8Array(content)]), name);
  return form;
}

export type Answer<Body> = {
  readonly status: number;
  readonly body: Body & { readonly error?: AnswerError };
};
type AnswerError = { readonly code: string; readonly message: string; readonly param: string | null };

export type Described = AdapterAnswer & {
  readonly residency: {
    readonly tier: string | null;
    readonly uses: { readonly leases: number; readonly hits: number; readonly loads: number } | null;
  };
};

export type UploadAnswer = AdapterAnswer & { readonly warnings: readonly string[] };

/** Calls of one server with one key. */
export class AdapterCalls {
  readonly #url: string;
  readonly #key: string | null;

  constructor(url: string, key: string | null = null) {
    this.#url = url;
    this.#key = key;
  }

  upload(
    fields: Readonly<Record<string, string>>,
    files: readonly NamedContent[],
  ): Promise<Answer<UploadAnswer>> {
    return this.call("POST", "/v1/adapters", formOf(fields, files));
  }

  get(id: string): Promise<Answer<Described>> {
    return this.call("GET", `/v1/adapters/${id}`);
  }

  async call<Body = AdapterAnswer>(
    method: string,
    path: string,
    body?: FormData | object,
  ): Promise<Answer<Body>> {
    const response = await this.fetch(method, path, body);
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.startsWith("application/json");
    return { status: response.status, body: isJson ? JSON.parse(text) : text };
  }

  fetch(method: string, path: string, body?: FormData | object): Promise<Response> {
    const headers: Record<string, string> =
      this.#key === null ? {} : { authorization: `Bearer ${this.#key}` };
    if (body !== undefined && !(body instanceof FormData)) headers["content-type"] = "application/json";
    return fetch(`${this.#url}${path}`, {
      method,
      headers,
      ...(body !== undefined && { body: body instanceof FormData ? body : JSON.stringify(body) }),
    });
  }
}
