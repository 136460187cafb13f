// POST /v1/load_lora_adapter and /v1/unload_lora_adapter: vLLM's routes, its texts and its statuses, for operators'
// tools that know them. What they load is shared, as it is the operator's, and stays over a restart.

import { z } from "@hono/zod-openapi";
import { jsonEndpoint } from "../endpoint.ts";
import { filesInDirectory } from "./lora-directory.ts";
import {
  LoraAlreadyLoadedError,
  LoraDirectoryMissingError,
  LoraFieldsMissingError,
  LoraNotFoundError,
} from "./lora-errors.ts";

const success = { 200: { description: "Success.", content: { "text/plain": { schema: z.string() } } } };

export const loadLoraAdapter = jsonEndpoint({
  method: "post",
  path: "/v1/load_lora_adapter",
  access: "admin",
  listener: "admin",
  summary: "Load an adapter from --lora-directory, as vLLM does",
  jsonBody: z.object({
    lora_name: z.string().default(""),
    lora_path: z.string().default(""),
    load_inplace: z.boolean().default(false),
  }),
  responses: success,
  async handle({ body, tenant }, context) {
    const { adaptersOf, loraDirectory } = context.readiness.serving;
    const { lora_name: id, lora_path: path, load_inplace: inPlace } = body;
    if (loraDirectory === null) throw new LoraDirectoryMissingError();
    if (id === "" || path === "") {
      throw new LoraFieldsMissingError("Both 'lora_name' and 'lora_path' must be provided.");
    }
    const adapters = adaptersOf(tenant);
    if (!inPlace && adapters.get(id)?.owner === tenant.id) throw new LoraAlreadyLoadedError(id);
    const files = await filesInDirectory(loraDirectory, path);
    if (files === null)
      throw new LoraNotFoundError(`Loading lora ${id} failed: No adapter found for ${path}`);
    await adapters.add({ id, source: { kind: "files", files }, shared: true });
    return new Response(`Success: LoRA adapter '${id}' added successfully.`);
  },
});

export const unloadLoraAdapter = jsonEndpoint({
  method: "post",
  path: "/v1/unload_lora_adapter",
  access: "admin",
  listener: "admin",
  summary: "Remove an adapter of the caller's, as vLLM does; requests under way end on it",
  jsonBody: z.object({ lora_name: z.string().default("") }),
  responses: success,
  async handle({ body, tenant }, context) {
    const { adaptersOf, loraDirectory } = context.readiness.serving;
    const { lora_name: id } = body;
    if (loraDirectory === null) throw new LoraDirectoryMissingError();
    if (id === "")
      throw new LoraFieldsMissingError("'lora_name' needs to be provided to unload a LoRA adapter.");
    const adapters = adaptersOf(tenant);
    if (adapters.get(id)?.owner !== tenant.id) {
      throw new LoraNotFoundError(`The lora adapter '${id}' cannot be found.`);
    }
    await adapters.remove(id, { force: true });
    return new Response(`Success: LoRA adapter '${id}' removed successfully.`);
  },
});
