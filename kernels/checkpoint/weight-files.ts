// Which files of a Hugging Face directory hold its weights: one model.safetensors, or the shards that
// model.safetensors.index.json names. Opens no weights.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { findDuplicateKey } from "./duplicate-keys.ts";

const singleName = "model.safetensors";
const indexName = "model.safetensors.index.json";

export type WeightFiles = {
  readonly fileNames: readonly string[]; // sorted, inside the directory
  /** Tensor name to file name; null when a single file holds everything. */
  readonly index: ReadonlyMap<string, string> | null;
};

/** Throws CheckpointError: `missing_weights`, `bad_shard_index` or `missing_shard`. */
export function findWeightFiles(directory: string): WeightFiles {
  if (existsSync(join(directory, singleName))) return { fileNames: [singleName], index: null };
  const indexPath = join(directory, indexName);
  if (!existsSync(indexPath)) throw missingWeights(directory);
  const index = parseIndex(indexPath);
  const fileNames = [...new Set(index.values())].sort();
  const missing = fileNames.find((name) => !existsSync(join(directory, name)));
  if (missing !== undefined) {
    throw new CheckpointError(
      "missing_shard",
      `${directory} lacks ${missing}, which ${indexName} names; download it again`,
    );
  }
  return { fileNames, index };
}

function parseIndex(path: string): Map<string, string> {
  let text: string;
  let parsed: unknown;
  try {
    text = readFileSync(path, "utf8");
    parsed = JSON.parse(text);
  } catch (cause) {
    throw badIndex(path, "is not JSON", cause);
  }
  const duplicate = findDuplicateKey(text);
  if (duplicate !== undefined) throw badIndex(path, `holds "${duplicate}" twice`);
  const weightMap = (parsed as { weight_map?: unknown } | null)?.weight_map;
  if (typeof weightMap !== "object" || weightMap === null) throw badIndex(path, "has no weight_map");
  const index = new Map<string, string>();
  for (const [tensor, file] of Object.entries(weightMap)) {
    // A plain name only: an index from elsewhere must not reach outside of its directory.
    if (typeof file !== "string" || basename(file) !== file || !file.endsWith(".safetensors")) {
      throw badIndex(path, `maps "${tensor}" to ${JSON.stringify(file)}, which names no shard beside it`);
    }
    index.set(tensor, file);
  }
  if (index.size === 0) throw badIndex(path, "names no tensor");
  return index;
}

function missingWeights(directory: string): CheckpointError {
  const names = existsSync(directory) ? readdirSync(directory) : [];
  const pickles = names.filter((name) => /\.(bin|pt|pth)$/.test(name));
  const remedy =
    pickles.length > 0
      ? `${pickles[0]} is a pickle, which can run code and is never opened: convert it with transformers' save_pretrained(safe_serialization=True)`
      : "give the directory of a Hugging Face checkpoint";
  return new CheckpointError(
    "missing_weights",
    `${directory} holds neither ${singleName} nor ${indexName}; ${remedy}`,
  );
}

function badIndex(path: string, what: string, cause?: unknown): CheckpointError {
  return new CheckpointError("bad_shard_index", `${path} ${what}; download it again`, { cause });
}
