// Gemma 3, text only: scaled embeddings, norms around both halves of a layer, norm weights stored as w - 1,
// five sliding layers to one full layer, each sort with its own rotary base.

import { commonConfig, type ModelConfig, type RawConfig, rotaryConfig } from "../model-config.ts";
import { llamaLayer, type ModelFamily } from "../model-family.ts";

export const gemma3: ModelFamily = {
  normOffset: 1,
  config(raw) {
    raw.refuse("final_logit_softcapping", () => false, "this graph has no soft cap on logits");
    raw.refuse("use_bidirectional_attention", (value) => value === false, "only causal attention is served");
    const config = commonConfig(raw, "gemma3", { headDim: 256 });
    const sliding = slidingLayers(raw, config.layers);
    const window = raw.size("sliding_window", 4096);
    return {
      ...config,
      activation: raw.has("hidden_activation") || raw.has("hidden_act") ? config.activation : "gelu-tanh",
      tiedHead: raw.boolean("tie_word_embeddings", true),
      attentionScale: 1 / Math.sqrt(raw.number("query_pre_attn_scalar", 256)),
      embeddingScale: Math.sqrt(config.hiddenSize),
      rotaries: rotaries(raw, config),
      layerRotary: sliding.map((slides) => (slides ? 1 : 0)),
      layerWindow: sliding.map((slides) => (slides ? window : null)),
    };
  },
  layer(config, index, raw) {
    const prefix = `model.layers.${index}`;
    const bias = raw.boolean("attention_bias", false);
    return {
      ...llamaLayer(config, index, { qkv: bias, o: bias, mlp: false }),
      mlpNorm: `${prefix}.pre_feedforward_layernorm.weight`,
      queryNorm: `${prefix}.self_attn.q_norm.weight`,
      keyNorm: `${prefix}.self_attn.k_norm.weight`,
      attentionOutputNorm: `${prefix}.post_attention_layernorm.weight`,
      mlpOutputNorm: `${prefix}.post_feedforward_layernorm.weight`,
    };
  },
};

function slidingLayers(raw: RawConfig, layers: number): boolean[] {
  const types = raw.strings("layer_types");
  const pattern = raw.size("sliding_window_pattern", raw.size("_sliding_window_pattern", 6));
  return Array.from({ length: layers }, (_, layer) =>
    types === null ? (layer + 1) % pattern !== 0 : types[layer] === "sliding_attention",
  );
}

/** [full layers', sliding layers']; transformers 5 nests them by layer type. */
function rotaries(raw: RawConfig, config: ModelConfig): ModelConfig["rotaries"] {
  const nested = raw.object("rope_parameters");
  const full = nested?.object("full_attention");
  const local = nested?.object("sliding_attention");
  if (full && local) {
    return [rotaryConfig(raw, config.headDim, full), rotaryConfig(raw, config.headDim, local)];
  }
  const global = config.rotaries[0]!;
  return [
    { ...global, theta: raw.number("rope_theta", 1_000_000) },
    { ...global, theta: raw.number("rope_local_base_freq", 10_000), scaling: { type: "default" } },
  ];
}
