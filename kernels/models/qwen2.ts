// Qwen2 and Qwen2.5: biases on q, k and v; a sliding window on the upper layers where the config turns it on.

import { commonConfig, type RawConfig } from "../model-config.ts";
import { llamaLayer, type ModelFamily } from "../model-family.ts";

export const qwen2: ModelFamily = {
  normOffset: 0,
  config(raw) {
    const config = commonConfig(raw, "qwen2");
    return { ...config, layerWindow: qwenWindows(raw, config.layers) };
  },
  layer: (config, index) => llamaLayer(config, index, { qkv: true, o: false, mlp: false }),
};

/** Window per layer: `layer_types` where given, else the layers from `max_window_layers` on. */
export function qwenWindows(raw: RawConfig, layers: number): (number | null)[] {
  if (!raw.boolean("use_sliding_window", false) || !raw.has("sliding_window"))
    return Array(layers).fill(null);
  const window = raw.size("sliding_window");
  const types = raw.strings("layer_types");
  const first = raw.number("max_window_layers", 28);
  return Array.from({ length: layers }, (_, layer) => {
    const slides = types === null ? layer >= first : types[layer] === "sliding_attention";
    return slides ? window : null;
  });
}
