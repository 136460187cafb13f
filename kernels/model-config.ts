// A checkpoint's architecture in one normalised form, and the reading of config.json that leads to it.
// Families (kernels/models) translate; the graph, the rotary tables and the KV store read only this.

import { CheckpointError } from "./errors.ts";

export type RotaryScaling =
  | { readonly type: "default" }
  | { readonly type: "linear"; readonly factor: number }
  | { readonly type: "dynamic"; readonly factor: number; readonly originalMaxPositions: number }
  | {
      readonly type: "llama3";
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalMaxPositions: number;
    }
  | {
      readonly type: "yarn";
      readonly factor: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      readonly attentionFactor: number;
      readonly originalMaxPositions: number;
      readonly truncate: boolean;
    };

export type RotaryConfig = {
  readonly theta: number;
  readonly dimensions: number; // of the head's dimensions, how many rotate
  readonly scaling: RotaryScaling;
};

export type ModelConfig = {
  readonly family: string;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly vocabSize: number;
  readonly maxPositions: number; // tokens
  readonly normEpsilon: number;
  readonly activation: "silu" | "gelu-tanh";
  readonly attentionScale: number;
  readonly embeddingScale: number;
  readonly tiedHead: boolean;
  readonly rotaries: readonly RotaryConfig[];
  readonly layerRotary: readonly number[]; // [layers], index into rotaries
  readonly layerWindow: readonly (number | null)[]; // [layers], tokens a query sees, itself included
};

/** Tokens up to which the rotary scaling was made to reach; beyond maxPositions only where it is asked for. */
export function longestContext({ maxPositions, rotaries }: ModelConfig): number {
  const reach = rotaries.map(({ scaling }) =>
    scaling.type === "dynamic" || scaling.type === "yarn"
      ? Math.floor(scaling.factor * scaling.originalMaxPositions)
      : 0,
  );
  return Math.max(maxPositions, ...reach);
}

/** Reads fields of config.json, naming the field in every refusal. */
export class RawConfig {
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #path: string;

  constructor(fields: unknown, path: string) {
    if (typeof fields !== "object" || fields === null || Array.isArray(fields)) {
      throw new CheckpointError("bad_config", `${path} must hold a JSON object`);
    }
    this.#fields = fields as Record<string, unknown>;
    this.#path = path;
  }

  has(name: string): boolean {
    return this.#fields[name] !== undefined && this.#fields[name] !== null;
  }

  /** Whether the field is written at all, be it as null. */
  declares(name: string): boolean {
    return this.#fields[name] !== undefined;
  }

  number(name: string, fallback?: number): number {
    const value = this.#get(name, fallback);
    if (typeof value === "number" && Number.isFinite(value)) return value;
    throw this.#bad(name, "a number", value);
  }

  /** A whole number of at least 1. */
  size(name: string, fallback?: number): number {
    const value = this.number(name, fallback);
    if (Number.isInteger(value) && value >= 1) return value;
    throw this.#bad(name, "a positive whole number", value);
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.#get(name, fallback);
    if (typeof value === "boolean") return value;
    throw this.#bad(name, "true or false", value);
  }

  string(name: string, fallback?: string): string {
    const value = this.#get(name, fallback);
    if (typeof value === "string") return value;
    throw this.#bad(name, "a string", value);
  }

  strings(name: string): readonly string[] | null {
    if (!this.has(name)) return null;
    const value = this.#fields[name];
    if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
    throw this.#bad(name, "a list of strings", value);
  }

  object(name: string): RawConfig | null {
    return this.has(name) ? new RawConfig(this.#fields[name], `${this.#path}: ${name}`) : null;
  }

  /** Refuses a feature that would change the outputs if it were ignored. */
  refuse(name: string, unless: (value: unknown) => boolean, why: string): void {
    const value = this.#fields[name];
    if (value === undefined || value === null || unless(value)) return;
    throw new CheckpointError(
      "unsupported_config",
      `${this.#path}: ${name} = ${JSON.stringify(value)} is not supported: ${why}`,
    );
  }

  error(name: string, message: string): CheckpointError {
    return new CheckpointError("unsupported_config", `${this.#path}: ${name}: ${message}`);
  }

  #get(name: string, fallback: unknown): unknown {
    if (this.has(name)) return this.#fields[name];
    if (fallback !== undefined) return fallback;
    throw new CheckpointError(
      "bad_config",
      `${this.#path} lacks "${name}"; take the config.json that was published with the weights`,
    );
  }

  #bad(name: string, wanted: string, value: unknown): CheckpointError {
    return new CheckpointError(
      "bad_config",
      `${this.#path}: "${name}" must be ${wanted}, not ${JSON.stringify(value)}`,
    );
  }
}

/** What a family takes where config.json is silent; transformers' defaults, which differ by family. */
export type ConfigDefaults = { readonly headDim?: number; readonly normEpsilon?: number };

/** The fields that all families share, under their published names. */
export function commonConfig(raw: RawConfig, family: string, defaults: ConfigDefaults = {}): ModelConfig {
  const hiddenSize = raw.size("hidden_size");
  const heads = raw.size("num_attention_heads");
  const kvHeads = raw.size("num_key_value_heads", heads);
  const layers = raw.size("num_hidden_layers");
  const headDim = raw.size("head_dim", defaults.headDim ?? hiddenSize / heads);
  if (heads % kvHeads !== 0) {
    throw raw.error("num_key_value_heads", `${kvHeads} does not divide num_attention_heads ${heads}`);
  }
  return {
    family,
    hiddenSize,
    layers,
    heads,
    kvHeads,
    headDim,
    intermediateSize: raw.size("intermediate_size"),
    vocabSize: raw.size("vocab_size"),
    maxPositions: raw.size("max_position_embeddings"),
    normEpsilon: raw.number("rms_norm_eps", defaults.normEpsilon ?? 1e-6),
    activation: activation(raw),
    attentionScale: 1 / Math.sqrt(headDim),
    embeddingScale: 1,
    tiedHead: raw.boolean("tie_word_embeddings", false),
    rotaries: [rotaryConfig(raw, headDim)],
    layerRotary: Array.from({ length: layers }, () => 0),
    layerWindow: Array.from({ length: layers }, () => null),
  };
}

function activation(raw: RawConfig): ModelConfig["activation"] {
  const field = raw.has("hidden_activation") ? "hidden_activation" : "hidden_act";
  const name = raw.string(field, "silu");
  if (name === "silu" || name === "swish") return "silu";
  if (name === "gelu_pytorch_tanh" || name === "gelu_new") return "gelu-tanh";
  throw raw.error(field, `"${name}" is not one of silu, gelu_pytorch_tanh`);
}

/**
 * Rotary parameters from either spelling: `rope_theta` with `rope_scaling`, or `rope_parameters` (transformers 5).
 * @param parameters the object that holds the scaling, where it is not the config's own
 */
export function rotaryConfig(raw: RawConfig, headDim: number, parameters?: RawConfig | null): RotaryConfig {
  const scaling = parameters ?? raw.object("rope_parameters") ?? raw.object("rope_scaling");
  const theta = scaling?.has("rope_theta")
    ? scaling.number("rope_theta")
    : raw.number("rope_theta", raw.number("default_theta", 10_000));
  const partial = (scaling?.has("partial_rotary_factor") ? scaling : raw).number("partial_rotary_factor", 1);
  const dimensions = Math.trunc(headDim * partial);
  return { theta, dimensions, scaling: scaling === null ? { type: "default" } : rotaryScaling(raw, scaling) };
}

function rotaryScaling(raw: RawConfig, scaling: RawConfig): RotaryScaling {
  const type = scaling.string(scaling.has("rope_type") ? "rope_type" : "type", "default");
  const maxPositions = raw.size("max_position_embeddings");
  // At the top level the field wins over the one among the scaling's own.
  const originalMaxPositions = raw.size(
    "original_max_position_embeddings",
    scaling.size("original_max_position_embeddings", maxPositions),
  );
  switch (type) {
    case "default":
      return { type };
    case "linear":
      return { type, factor: scaling.number("factor") };
    case "dynamic":
      return { type, factor: scaling.number("factor"), originalMaxPositions: maxPositions };
    case "llama3":
      return {
        type,
        factor: scaling.number("factor"),
        lowFrequencyFactor: scaling.number("low_freq_factor"),
        highFrequencyFactor: scaling.number("high_freq_factor"),
        originalMaxPositions,
      };
    case "yarn":
      return {
        type,
        factor: scaling.number("factor", maxPositions / originalMaxPositions),
        betaFast: scaling.number("beta_fast", 32),
        betaSlow: scaling.number("beta_slow", 1),
        attentionFactor: yarnAttentionFactor(
          scaling,
          scaling.number("factor", maxPositions / originalMaxPositions),
        ),
        originalMaxPositions,
        truncate: scaling.boolean("truncate", true),
      };
    default:
      throw scaling.error("rope_type", `"${type}" is not one of default, linear, dynamic, llama3, yarn`);
  }
}

/** YaRN (arXiv 2309.00071) section 3.4, with DeepSeek's mscale variant as transformers reads it. */
function yarnAttentionFactor(scaling: RawConfig, factor: number): number {
  if (scaling.has("attention_factor")) return scaling.number("attention_factor");
  const mscale = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  if (scaling.has("mscale") && scaling.has("mscale_all_dim")) {
    return mscale(scaling.number("mscale")) / mscale(scaling.number("mscale_all_dim"));
  }
  return mscale(1);
}
