// POST /v1/adapters: an upload goes to quarantine as it arrives, and is served once the store has accepted it.

import { randomUUID } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { z } from "@hono/zod-openapi";
import type { NamedFile, StoredAdapter } from "../../adapters-store/store.ts";
import { BodyTooLargeError, InvalidFieldError, UnknownFieldError } from "../errors.ts";
import { type MultipartPart, readMultipart } from "../multipart.ts";
import { jsonResponse, plainEndpoint } from "./endpoint.ts";

const limits = { sizeBytes: 2 ** 31, parts: 16 };
const idLimitBytes = 1024;
const fileNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

const uploadForm = z.object({
  id: z.string(),
  files: z.array(z.string().openapi({ format: "binary" })).openapi({
    description: "adapter_config.json and adapter_model.safetensors",
  }),
});

const uploadAnswer = z
  .object({
    id: z.string(),
    object: z.literal("adapter"),
    version: z.string(),
    format: z.string(),
    kinds: z.array(z.string()),
    ranks: z.object({ min: z.int(), max: z.int() }).nullable(),
    modules_matched: z.object({ count: z.int(), names: z.array(z.string()) }),
    modules_unmatched: z.array(z.string()),
    files_ignored: z.array(z.string()),
    size_bytes: z.int(),
    created_at: z.int(),
  })
  .openapi("Adapter");

export const uploadAdapter = plainEndpoint({
  method: "post",
  path: "/v1/adapters",
  access: "manage",
  listener: "main",
  summary: "Upload an adapter and serve it under its id",
  request: { body: { required: true, content: { "multipart/form-data": { schema: uploadForm } } } },
  responses: { 201: jsonResponse("The adapter is served from now on.", uploadAnswer) },
  async handle({ raw, signal, tenant }, context) {
    const { adaptersOf, uploadDirectory } = context.readiness.serving;
    const directory = join(uploadDirectory, randomUUID());
    await mkdir(directory, { recursive: true });
    try {
      const { id, files } = await receive(raw, { directory, signal });
      const added = await adaptersOf(tenant).add(id, { kind: "files", files });
      return Response.json(answer(added), { status: 201 });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  },
});

type Quarantine = { readonly directory: string; readonly signal: AbortSignal };

async function receive(raw: Request, quarantine: Quarantine): Promise<{ id: string; files: NamedFile[] }> {
  let id: string | null = null;
  const files: NamedFile[] = [];
  for await (const part of readMultipart(raw, limits)) {
    if (part.name === "files") {
      // The client's name is only a label; where the bytes go is the server's choice.
      const path = join(quarantine.directory, String(files.length));
      files.push({ name: checkedFileName(part, files.length), path });
      await pipeline(part.content, createWriteStream(path, { flags: "wx" }), { signal: quarantine.signal });
    } else if (part.name === "id" && id === null) id = await readId(part);
    else throw new UnknownFieldError(part.name);
  }
  if (id === null) throw new InvalidFieldError("id", "is missing; send the adapter's id as a form field");
  if (files.length === 0)
    throw new InvalidFieldError("files", "is missing; send the adapter's files as files parts");
  return { id, files };
}

function checkedFileName({ fileName }: MultipartPart, index: number): string {
  if (fileName !== null && fileNamePattern.test(fileName)) return fileName;
  throw new InvalidFieldError(`files[${index}]`, "needs a plain file name, such as adapter_config.json");
}

async function readId(part: MultipartPart): Promise<string> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of part.content) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > idLimitBytes) throw new BodyTooLargeError(idLimitBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function answer({ id, version, format, summary, filesIgnored, createdAtMs }: StoredAdapter) {
  return {
    id,
    object: "adapter",
    version,
    format,
    kinds: summary.kinds,
    ranks: summary.ranks,
    modules_matched: summary.modulesMatched,
    modules_unmatched: summary.modulesUnmatched,
    files_ignored: filesIgnored,
    size_bytes: summary.sizeBytes,
    created_at: Math.floor(createdAtMs / 1000),
  };
}
