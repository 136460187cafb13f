// Reads a checkpoint's text files: tokenizer.json, tokenizer_config.json and chat_template.jinja.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError } from "../../kernels/errors.ts";
import { ChatTemplate, chatTemplateSource } from "./chat-template.ts";
import type { TextParts } from "./text-model.ts";
import { TextTokenizer } from "./tokenizer.ts";

type JsonObject = Readonly<Record<string, unknown>>;

/** Files that are absent make parts that are null. Throws CheckpointError naming the file. */
export async function loadTextParts(modelDirectory: string): Promise<TextParts> {
  const tokenizerJson = await readJson(join(modelDirectory, "tokenizer.json"));
  const config = (await readJson(join(modelDirectory, "tokenizer_config.json"))) ?? {};
  const templateFile = await readIfPresent(join(modelDirectory, "chat_template.jinja"));
  const source = templateFile ?? chatTemplateSource(config);
  return {
    tokenizer: tokenizerJson ? new TextTokenizer(tokenizerJson, config) : null,
    template: source === null ? null : new ChatTemplate(source, config),
  };
}

async function readJson(path: string): Promise<JsonObject | null> {
  const text = await readIfPresent(path);
  if (text === null) return null;
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new CheckpointError("checkpoint_unreadable", `${path} is not valid JSON`, { cause: error });
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new CheckpointError("checkpoint_unreadable", `${path} does not hold a JSON object`);
  }
  return parsed as JsonObject;
}

async function readIfPresent(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw new CheckpointError("checkpoint_unreadable", `${path} cannot be read`, { cause: error });
  }
}
