// Mistral 7B: Llama's layout with one sliding window for all layers.

import { commonConfig } from "../model-config.ts";
import { llamaLayer, type ModelFamily } from "../model-family.ts";

export const mistral: ModelFamily = {
  normOffset: 0,
  config(raw) {
    const config = commonConfig(raw, "mistral");
    const window = raw.has("sliding_window") ? raw.size("sliding_window") : null;
    return { ...config, layerWindow: config.layerWindow.map(() => window) };
  },
  layer: (config, index) => llamaLayer(config, index, { qkv: false, o: false, mlp: false }),
};
