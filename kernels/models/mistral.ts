// Mistral 7B: Llama's layout with one sliding window for all layers.

import { commonConfig } from "../model-config.ts";
import { llamaLayer, type ModelFamily } from "../model-family.ts";

export const mistral: ModelFamily = {
  normOffset: 0,
  config(raw) {
    const config = commonConfig(raw, "mistral");
    const window =
      raw.declares("sliding_window") && !raw.has("sliding_window") ? null : raw.size("sliding_window", 4096);
    return { ...config, layerWindow: config.layerWindow.map(() => window) };
  },
  layer: (config, index) => llamaLayer(config, index, { qkv: false, o: false, mlp: false }),
};
