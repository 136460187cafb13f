// The routes that change what a name means, and their answers as they are.

import type { AdapterFiles } from "../load/generated-adapters.ts";
import { formOf, type HttpClient } from "../load/http-client.ts";

export type StoreAnswer = { readonly status: number; readonly text: string };

export class StoreCalls {
  readonly #client: HttpClient;

  constructor(client: HttpClient) {
    this.#client = client;
  }

  upload(id: string, { config, weights }: AdapterFiles, fields = {}): Promise<StoreAnswer> {
    const form = formOf({ id, ...fields }, [
      { field: "files", name: "adapter_config.json", bytes: config },
      { field: "files", name: "adapter_model.safetensors", bytes: weights },
    ]);
    return this.#client.text({ method: "POST", path: "/v1/adapters", key: null, form });
  }

  /** @param what after the id, such as pin */
  post(id: string, what: string, body?: object): Promise<StoreAnswer> {
    const path = `/v1/adapters/${id}/${what}`;
    return this.#client.text({ method: "POST", path, key: null, ...(body && { body }) });
  }

  /** @param what after the id, such as ?force=true */
  delete(id: string, what = ""): Promise<StoreAnswer> {
    return this.#client.text({ method: "DELETE", path: `/v1/adapters/${id}${what}`, key: null });
  }
}

export function errorCode(text: string): string {
  try {
    return String((JSON.parse(text) as { readonly error?: { readonly code?: unknown } }).error?.code);
  } catch {
    return "no code";
  }
}
