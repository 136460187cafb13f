// Which modules a PEFT config targets, at which rank and alpha. Module paths are those inside of the base model, such
// as `model.layers.0.self_attn.q_proj`.

import { AdapterError } from "../../../kernels/errors.ts";
import { compileFullMatch, compilePatternKey } from "../python-regex.ts";
import { configName, type PeftFields, shown } from "./fields.ts";

/** Fields that are read here. */
export const targetFields = ["exclude_modules", "layers_pattern", "layers_to_transform", "target_modules"];
export const rankFields = ["alpha_pattern", "r", "rank_pattern"];

type Matcher = (path: string) => boolean;

/** PEFT's check_target_module_exists. */
export function targetMatcher(fields: PeftFields): Matcher {
  const targets = moduleMatcher(fields, "target_modules");
  const excludes = moduleMatcher(fields, "exclude_modules");
  const layers = layerMatcher(fields);
  return (path) => {
    if (excludes?.(path)) return false;
    if (targets === null) return true; // what the tensors name is all that there is to go by
    return targets(path) && layers(path);
  };
}

/** PEFT's rank and alpha of a module; the first pattern that matches wins. */
export function rankRules(fields: PeftFields, alphaName: "alpha" | "lora_alpha") {
  const rank = fields.positive("r");
  const alpha = fields.number(alphaName);
  const ranks = patterns(fields, "rank_pattern");
  const alphas = patterns(fields, "alpha_pattern");
  return {
    rankOf: (path: string) => firstMatch(ranks, path) ?? rank,
    alphaOf: (path: string) => firstMatch(alphas, path) ?? alpha,
  };
}

/** Null where the field is not set. */
function moduleMatcher(fields: PeftFields, name: string): Matcher | null {
  const value = fields.raw(name);
  if (value === undefined || value === null) return null;
  // Every linear map but the output's, and no embedding.
  if (value === "all-linear" && name === "target_modules") return (path) => /\blayers\./.test(path);
  if (typeof value === "string") return patternMatcher(name, value);
  const names = fields.strings(name);
  return (path) => names.some((target) => path === target || path.endsWith(`.${target}`));
}

export function patternMatcher(name: string, pattern: string): Matcher {
  const compiled = compile(name, pattern, compileFullMatch);
  return (path) => compiled.test(path);
}

function layerMatcher(fields: PeftFields): Matcher {
  if (!fields.isSet("layers_to_transform")) return () => true;
  // PEFT has layers_to_transform beside a list of targets only.
  if (typeof fields.raw("target_modules") === "string") return () => true;
  const layers = fields.raw("layers_to_transform");
  const indices = Array.isArray(layers) ? layers : [layers];
  if (!indices.every((index) => Number.isInteger(index))) throw fields.malformed("layers_to_transform");
  const matchers = layerPatterns(fields).map((name) =>
    compile("layers_pattern", `(?:.*?\\.)?(?:${name})\\.(?<layer>\\d+)\\..*`, compileFullMatch),
  );
  return (path) => {
    const match = matchers.map((matcher) => matcher.exec(path)).find((found) => found !== null);
    return match !== undefined && indices.includes(Number(match?.groups?.layer));
  };
}

function layerPatterns(fields: PeftFields): readonly string[] {
  const name = "layers_pattern";
  if (!fields.isSet(name)) return ["[^.]*"];
  const value = fields.raw(name);
  return typeof value === "string" ? [value] : fields.strings(name);
}

function patterns(fields: PeftFields, name: string): readonly (readonly [RegExp, number])[] {
  const value = fields.raw(name);
  if (value === undefined || value === null) return [];
  if (typeof value !== "object" || Array.isArray(value)) throw fields.malformed(name);
  return Object.entries(value).map(([pattern, result]) => {
    if (typeof result !== "number" || !Number.isFinite(result)) throw fields.malformed(name);
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
