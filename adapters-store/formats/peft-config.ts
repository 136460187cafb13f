// Reads adapter_config.json of a PEFT LoRA adapter: which modules it targets, at which rank and scale.
// Whatever would change the adapter's output and is not served is refused by name; opens no tensors.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { findDuplicateKey } from "../../kernels/checkpoint/duplicate-keys.ts";
import { AdapterError } from "../../kernels/errors.ts";
import { compileFullMatch, compilePatternKey } from "./python-regex.ts";

export const configName = "adapter_config.json";
const maxConfigBytes = 4 << 20;

/** Module paths are those inside of the base model, such as `model.layers.0.self_attn.q_proj`. */
export type PeftConfig = {
  readonly targets: (modulePath: string) => boolean;
  readonly rankOf: (modulePath: string) => number;
  /** What x aᵀ bᵀ is multiplied with. */
  readonly scaleOf: (modulePath: string) => number;
};

/** Fields that decide the output; they are read below. */
const readFields = [
  "alpha_pattern",
  "exclude_modules",
  "init_lora_weights",
  "layers_pattern",
  "layers_to_transform",
  "lora_alpha",
  "peft_type",
  "r",
  "rank_pattern",
  "target_modules",
  "use_rslora",
];

/** Fields that do not: provenance, training, or how other software runs the adapter. */
const inertFields = [
  "auto_mapping",
  "base_model_name_or_path",
  "corda_config",
  "ensure_weight_tying",
  "ephemeral_gpu_offload",
  "eva_config",
  "fan_in_fan_out", // the layout of base weights that PEFT merges into; A and B lie the same either way
  "inference_mode",
  "loftq_config",
  "lora_dropout",
  "lora_ga_config",
  "megatron_config",
  "megatron_core",
  "parent_library",
  "peft_version",
  "qalora_group_size", // without use_qalora
  "revision",
  "runtime_config",
  "task_type",
];
const knownFields = new Set([...readFields, ...inertFields, "bias"]);

/** Initialisations that leave the base weights as they are; the others (PiSSA, OLoRA, LoftQ, ...) change them. */
const inertInitialisations: readonly unknown[] = [
  true,
  false,
  null,
  undefined,
  "gaussian",
  "eva",
  "orthogonal",
];

/** Throws AdapterError: `adapter_config_malformed`, `peft_type_unsupported`, `adapter_feature_unsupported`. */
export function readPeftConfig(directory: string): PeftConfig {
  const fields = parseJson(join(directory, configName));
  refuseUnsupported(fields);
  const rank = positive(fields, "r");
  const alpha = number(fields, "lora_alpha");
  const rankPattern = patterns(fields, "rank_pattern");
  const alphaPattern = patterns(fields, "alpha_pattern");
  const rankOf = (path: string) => firstMatch(rankPattern, path) ?? rank;
  const rootRank = flag(fields, "use_rslora"); // rank-stabilised LoRA, arXiv 2312.03732
  return {
    targets: targetMatcher(fields),
    rankOf,
    scaleOf: (path) => {
      const moduleRank = rankOf(path);
      return (firstMatch(alphaPattern, path) ?? alpha) / (rootRank ? Math.sqrt(moduleRank) : moduleRank);
    },
  };
}

type Fields = Readonly<Record<string, unknown>>;

function parseJson(path: string): Fields {
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
  return parsed as Fields;
}

function refuseUnsupported(fields: Fields): void {
  if (fields.peft_type !== "LORA") {
    throw new AdapterError(
      "peft_type_unsupported",
      `${configName}: peft_type ${shown(fields.peft_type)} is not served; train or convert it as LORA`,
    );
  }
  if (fields.bias !== undefined && fields.bias !== "none") throw unsupported(fields, "bias");
  if (!inertInitialisations.includes(fields.init_lora_weights)) {
    throw new AdapterError(
      "adapter_feature_unsupported",
      `${configName}: init_lora_weights ${shown(fields.init_lora_weights)} changes the base weights; save it with path_initial_model_for_weight_conversion, which makes it a plain LoRA`,
    );
  }
  for (const [name, value] of Object.entries(fields)) {
    if (!knownFields.has(name) && !isEmpty(value)) throw unsupported(fields, name);
  }
}

/** PEFT's check_target_module_exists, for the modules that a decoder layer has. */
function targetMatcher(fields: Fields): (path: string) => boolean {
  const targets = moduleMatcher(fields, "target_modules");
  const excludes = moduleMatcher(fields, "exclude_modules");
  const layers = layerMatcher(fields);
  return (path) => {
    if (excludes?.(path)) return false;
    if (targets === null) return true; // what the tensors name is all that there is to go by
    return targets(path) && layers(path);
  };
}

function moduleMatcher(fields: Fields, name: string): ((path: string) => boolean) | null {
  const value = fields[name];
  if (value === undefined || value === null) return null;
  if (value === "all-linear" && name === "target_modules") return () => true;
  if (typeof value === "string") {
    const pattern = compile(name, value, compileFullMatch);
    return (path) => pattern.test(path);
  }
  const names = strings(name, value);
  return (path) => names.some((target) => path === target || path.endsWith(`.${target}`));
}

function layerMatcher(fields: Fields): (path: string) => boolean {
  const { layers_to_transform: layers, layers_pattern: pattern } = fields;
  if (layers === undefined || layers === null || isEmpty(layers)) return () => true;
  // PEFT has layers_to_transform beside a list of targets only.
  if (typeof fields.target_modules === "string") return () => true;
  const indices = Array.isArray(layers) ? layers : [layers];
  if (!indices.every((index) => Number.isInteger(index))) throw malformedField("layers_to_transform", layers);
  const names = isEmpty(pattern)
    ? ["[^.]*"]
    : strings("layers_pattern", Array.isArray(pattern) ? pattern : [pattern]);
  const matchers = names.map((name) =>
    compile("layers_pattern", `(?:.*?\\.)?(?:${name})\\.(?<layer>\\d+)\\..*`, compileFullMatch),
  );
  return (path) => {
    const match = matchers.map((matcher) => matcher.exec(path)).find((found) => found !== null);
    return match !== undefined && indices.includes(Number(match?.groups?.layer));
  };
}

function patterns(fields: Fields, name: string): readonly (readonly [RegExp, number])[] {
  const value = fields[name];
  if (value === undefined || value === null) return [];
  if (typeof value !== "object" || Array.isArray(value)) throw malformedField(name, value);
  return Object.entries(value).map(([pattern, result]) => {
    if (typeof result !== "number" || !Number.isFinite(result)) throw malformedField(name, value);
    return [compile(name, pattern, compilePatternKey), result] as const;
  });
}

function firstMatch(entries: readonly (readonly [RegExp, number])[], path: string): number | undefined {
  return entries.find(([pattern]) => pattern.test(path))?.[1];
}

function compile(field: string, pattern: string, compiler: (pattern: string) => RegExp): RegExp {
  try {
    return compiler(pattern);
  } catch (cause) {
    const message = `${configName}: ${field} holds the pattern ${shown(pattern)}, which cannot be read; give names instead`;
    throw new AdapterError("adapter_config_malformed", message, { cause });
  }
}

function flag(fields: Fields, name: string): boolean {
  const value = fields[name] ?? false;
  if (typeof value === "boolean") return value;
  throw malformedField(name, value);
}

function positive(fields: Fields, name: string): number {
  const value = number(fields, name);
  if (Number.isInteger(value) && value > 0) return value;
  throw malformedField(name, value);
}

function number(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw malformedField(name, value);
}

function strings(name: string, value: unknown): readonly string[] {
  if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
  throw malformedField(name, value);
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === "") return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

function unsupported(fields: Fields, name: string): AdapterError {
  return new AdapterError(
    "adapter_feature_unsupported",
    `${configName}: ${name} = ${shown(fields[name])} is not served; train or merge the adapter without it`,
  );
}

function malformedField(name: string, value: unknown): AdapterError {
  return malformed(`has ${name} = ${shown(value)}`);
}

function malformed(what: string, cause?: unknown): AdapterError {
  const message = `${configName} ${what}; give the file that PEFT's save_pretrained wrote`;
  return new AdapterError("adapter_config_malformed", message, { cause });
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 100);
}
