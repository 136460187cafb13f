// Qwen3 (dense): norms on each head's query and key; no biases unless the config asks; head_dim of its own.

import { commonConfig } from "../model-config.ts";
import { llamaLayer, type ModelFamily } from "../model-family.ts";
import { qwenWindows } from "./qwen2.ts";

export const qwen3: ModelFamily = {
  normOffset: 0,
  config(raw) {
    const config = commonConfig(raw, "qwen3", { headDim: 128 });
    return { ...config, layerWindow: qwenWindows(raw, config.layers) };
  },
  layer(config, index, raw) {
    const bias = raw.boolean("attention_bias", false);
    return {
      ...llamaLayer(config, index, { qkv: bias, o: bias, mlp: false }),
      queryNorm: `model.layers.${index}.self_attn.q_norm.weight`,
      keyNorm: `model.layers.${index}.self_attn.k_norm.weight`,
    };
  },
};
