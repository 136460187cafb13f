// Reads a config file: one JSON object whose keys are the flags' names without dashes in front.

import { readFileSync } from "node:fs";
import { keyOf, type OptionName, optionNames, optionsTable } from "../options.ts";
import { ConfigFileError, UnknownNameError } from "./errors.ts";
import type { Given } from "./read-options.ts";

export function readConfigFile(path: string): Map<OptionName, Given> {
  const entries = Object.entries(parseObject(path)).map(([key, value]) => {
    const name = optionNames.find((known) => keyOf(known) === key);
    if (name === undefined)
      throw new UnknownNameError(`key in config file ${path}:`, key, optionNames.map(keyOf));
    const { jsonType } = optionsTable[name];
    if (typeof value !== jsonType) throw new ConfigFileError(path, `${key} must be a ${jsonType}`);
    return [name, { source: `${key} in ${path}`, text: String(value) }] as const;
  });
  return new Map(entries);
}

function parseObject(path: string): object {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new ConfigFileError(path, "cannot be read; check the path", { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigFileError(path, `is not JSON (${reason})`, { cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new ConfigFileError(path, "must hold one JSON object");
}
