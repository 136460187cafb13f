// Llama 2 and 3, SmolLM and everything else that calls itself "llama".

import { commonConfig } from "../model-config.ts";
import { llamaLayer, type ModelFamily } from "../model-family.ts";

export const llama: ModelFamily = {
  normOffset: 0,
  config: (raw) => commonConfig(raw, "llama"),
  layer(config, index, raw) {
    const attention = raw.boolean("attention_bias", false);
    return llamaLayer(config, index, { qkv: attention, o: attention, mlp: raw.boolean("mlp_bias", false) });
  },
};
