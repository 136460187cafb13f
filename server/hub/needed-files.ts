// Which files of a repository on the hub a server needs: one format of the weights, the configuration, the text
// side. Names only; nothing is fetched here.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { HubError } from "./errors.ts";

const indexName = "model.safetensors.index.json";
const singleName = "model.safetensors";
const weightName = /^[\w.-]+\.safetensors$/;
const describing =
  /^(config|generation_config|special_tokens_map|added_tokens)\.json$|^(tokenizer|chat_template)[\w.]*$/;

/** Everything but the weights. Throws HubError where the repository holds no checkpoint that can be served. */
export function describingFiles(names: readonly string[], model: string): string[] {
  if (!names.includes("config.json"))
    throw notServable(model, "has no config.json, so it is no Transformers checkpoint");
  return names.filter((name) => describing.test(name) || name === indexName);
}

/** Without an index: model.safetensors, else every .safetensors file there is. */
export function weightFiles(names: readonly string[], model: string): string[] {
  if (names.includes(singleName)) return [singleName];
  const weights = names.filter((name) => weightName.test(name));
  if (weights.length === 0)
    throw notServable(model, "has no .safetensors weights; choose a repository that has");
  return weights;
}

/** With an index (already in the directory): the shards it names. Undefined where there is none. */
export async function shardsIn(directory: string, names: readonly string[]): Promise<string[] | undefined> {
  if (!names.includes(indexName)) return undefined;
  let index: unknown;
  try {
    index = JSON.parse(await readFile(join(directory, indexName), "utf8"));
  } catch {
    throw notServable(indexName, "is not JSON; choose another repository or revision");
  }
  const weightMap =
    typeof index === "object" && index !== null && "weight_map" in index ? index.weight_map : undefined;
  const shards = [...new Set(Object.values(weightMap ?? {}).map(String))];
  const missing = shards.find((shard) => !names.includes(shard) || !weightName.test(shard));
  if (shards.length === 0 || missing !== undefined) {
    throw notServable(indexName, `names ${missing ?? "no shard"}, which the repository does not have`);
  }
  return shards;
}

function notServable(what: string, problem: string): HubError {
  return new HubError("hub_not_servable", `${what} ${problem}`);
}
