// LoRA (arXiv 2106.09685) with what PEFT adds to it: rank-stabilised scale (arXiv 2312.03732), DoRA (arXiv 2402.09353),
// trained biases, and LoRA of the embeddings and the head.

import { AdapterError } from "../../../kernels/errors.ts";
import { type ModulePlace, type ProjectionPlace, widthsOf } from "../module-places.ts";
import type { ModuleSet, StoredLowRank } from "../module-set.ts";
import { configName, type PeftFields, shown } from "./fields.ts";
import { doraMagnitude, loraOutputScale } from "./lora-output-scale.ts";
import { rankFields, rankRules, targetFields } from "./target-modules.ts";
import {
  groupTensors,
  type PeftAdapter,
  type PeftMethod,
  requireTargeted,
  type StoredModule,
} from "./tensors.ts";
import { requireUnchanged } from "./whole-weights.ts";

export const lora: PeftMethod = {
  fields: [
    ...targetFields,
    ...rankFields,
    "bias",
    "ensure_weight_tying",
    "init_lora_weights",
    "lora_alpha",
    "lora_bias",
    "use_dora",
    "use_rslora",
    // of training alone
    "corda_config",
    "ephemeral_gpu_offload",
    "eva_config",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "qalora_group_size", // without use_qalora
  ],

  decode(adapter, modules) {
    const { fields } = adapter;
    refuseUnsupported(fields);
    const stored = groupTensors(adapter, (place) => parametersOf(place, fields));
    requireTargeted(fields, stored.filter(hasLowRank));
    const rules = rankRules(fields, "lora_alpha");
    for (const module of stored) decodeModule({ ...adapter, rules }, module, modules);
  },
};

type LoraAdapter = PeftAdapter & { readonly rules: ReturnType<typeof rankRules> };

function parametersOf({ kind }: ModulePlace, fields: PeftFields): readonly string[] {
  const pair = ["lora_A.weight", "lora_B.weight"];
  if (kind === "embedding") return ["lora_embedding_A", "lora_embedding_B", "weight"];
  if (kind === "head") return [...pair, "weight"];
  return [
    ...pair,
    ...(fields.flag("use_dora") ? [doraMagnitude] : []),
    ...(fields.flag("lora_bias") ? ["lora_B.bias"] : []),
    ...(isNone(fields.raw("bias")) ? [] : ["bias"]),
  ];
}

function hasLowRank({ parameters }: StoredModule): boolean {
  return parameters.some((parameter) => parameter.startsWith("lora_"));
}

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

function refuseUnsupported(fields: PeftFields): void {
  const bias = fields.raw("bias");
  if (!isNone(bias) && bias !== "all" && bias !== "lora_only") throw fields.unsupported("bias");
  const initialisation = fields.raw("init_lora_weights");
  if (!inertInitialisations.includes(initialisation)) {
    throw new AdapterError(
      "adapter_feature_unsupported",
      `${configName}: init_lora_weights ${shown(initialisation)} changes the base weights; save it with path_initial_model_for_weight_conversion, which makes it a plain LoRA`,
    );
  }
  // PEFT refuses the pair as well; its forward pass would take the bias for a part of the weight.
  if (fields.flag("use_dora") && fields.flag("lora_bias")) throw fields.unsupported("lora_bias");
}

function decodeModule(adapter: LoraAdapter, module: StoredModule, modules: ModuleSet): void {
  const { path, place } = module;
  if (place.kind !== "projections") {
    requireUnchanged(adapter, module, place.kind);
    if (!hasLowRank(module)) return;
    if (adapter.fields.flag("ensure_weight_tying")) throw adapter.fields.unsupported("ensure_weight_tying");
    if (adapter.fields.flag("use_dora")) {
      throw new AdapterError(
        "adapter_feature_unsupported",
        `${configName}: use_dora on ${path} is not served; target the layers' projections alone`,
      );
    }
  }
  const lowRank = hasLowRank(module) ? readPair(adapter, module) : null;
  if (lowRank !== null) modules.addLowRank(place, lowRank);
  if (place.kind !== "projections") return;
  const scale = loraOutputScale(adapter, { module: module as StoredModule<ProjectionPlace>, lowRank });
  if (scale !== null) modules.addScale(place, { path, ...scale });
}

function readPair({ fields, targets, rules }: LoraAdapter, module: StoredModule): StoredLowRank {
  const { path, place } = module;
  const rank = rules.rankOf(path);
  const width = widthsOf(place, targets);
  const isEmbedding = place.kind === "embedding";
  const a = module.read(isEmbedding ? "lora_embedding_A" : "lora_A.weight", [rank, width.in], "[rank, in]");
  const b = module.read(isEmbedding ? "lora_embedding_B" : "lora_B.weight", [width.out, rank], "[out, rank]");
  return {
    path,
    rank,
    a,
    b,
    scale: rules.alphaOf(path) / (fields.flag("use_rslora") ? Math.sqrt(rank) : rank),
  };
}

function isNone(bias: unknown): boolean {
  return bias === undefined || bias === null || bias === "none";
}
