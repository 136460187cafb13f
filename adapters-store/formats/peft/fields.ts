// The fields of adapter_config.json, each read with its type checked. Knows no method's fields.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { findDuplicateKey } from "../../../kernels/checkpoint/duplicate-keys.ts";
import { AdapterError } from "../../../kernels/errors.ts";

export const configName = "adapter_config.json";
const maxConfigBytes = 4 << 20;

/** Fields of every method that do not change its output: provenance, training, how other software runs it. */
const inertFields = [
  "auto_mapping",
  "base_model_name_or_path",
  "fan_in_fan_out", // the layout of base weights that PEFT merges into; the adapter's own lie the same either way
  "inference_mode",
  "parent_library",
  "peft_type", // read by the format
  "peft_version",
  "revision",
  "runtime_config",
  "task_type",
];

export class PeftFields {
  readonly #fields: Readonly<Record<string, unknown>>;

  constructor(fields: Readonly<Record<string, unknown>>) {
    this.#fields = fields;
  }

  /** The value as it is written. */
  raw(name: string): unknown {
    return this.#fields[name];
  }

  /** Neither false nor without content. */
  isSet(name: string): boolean {
    const value = this.#fields[name];
    if (value === undefined || value === null || value === false || value === "") return false;
    return typeof value !== "object" || Object.keys(value).length > 0;
  }

  number(name: string): number {
    const value = this.#fields[name];
    if (typeof value === "number" && Number.isFinite(value)) return value;
    throw this.malformed(name);
  }

  /** A whole number of at least 1. */
  positive(name: string): number {
    const value = this.number(name);
    if (Number.isInteger(value) && value > 0) return value;
    throw this.malformed(name);
  }

  /** False where it is not written. */
  flag(name: string): boolean {
    const value = this.#fields[name] ?? false;
    if (typeof value === "boolean") return value;
    throw this.malformed(name);
  }

  strings(name: string): readonly string[] {
    const value = this.#fields[name];
    if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
    throw this.malformed(name);
  }

  /** Refuses every field that is set and would change the output, but is none of `known`. */
  refuseOthers(known: readonly string[]): void {
    for (const name of Object.keys(this.#fields)) {
      if (this.isSet(name) && !known.includes(name) && !inertFields.includes(name))
        throw this.unsupported(name);
    }
  }

  unsupported(name: string): AdapterError {
    return new AdapterError(
      "adapter_feature_unsupported",
      `${configName}: ${name} = ${shown(this.#fields[name])} is not served; train or merge the adapter without it`,
    );
  }

  malformed(name: string): AdapterError {
    return malformed(`has ${name} = ${shown(this.#fields[name])}`);
  }
}

/** Throws AdapterError `adapter_config_malformed`. */
export function readPeftFields(directory: string): PeftFields {
  const path = join(directory, configName);
  const { size } = statSync(path);
  if (size > maxConfigBytes) throw malformed(`has ${size} bytes, more than ${maxConfigBytes}`);
  const text = readFileSync(path, "utf8");
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw malformed("is not JSON", cause);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw malformed("is not an object");
  const duplicate = findDuplicateKey(text);
  if (duplicate !== undefined) throw malformed(`holds ${shown(duplicate)} twice`);
  return new PeftFields(parsed as Record<string, unknown>);
}

function malformed(what: string, cause?: unknown): AdapterError {
  const message = `${configName} ${what}; give the file that PEFT's save_pretrained wrote`;
  return new AdapterError("adapter_config_malformed", message, { cause });
}

export function shown(value: unknown): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 100);
}
