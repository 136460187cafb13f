// The same checkpoint with a few of its layers, one of each kind: opened in little memory and time, and computed by
// the same kernels as the whole, since layers of a kind differ in nothing but their weights.

import type { PreparedBase } from "./base-model.ts";
import type { ModelConfig } from "./model-config.ts";

const leastLayers = 2; // so that there is what one layer hands to the next

export function shortenedBase(base: PreparedBase): PreparedBase {
  const { config, layout } = base;
  const layers = representativeLayers(config).map((index) => layout.layers[index]!);
  return { ...base, config: shortenedConfig(config), layout: { ...layout, layers } };
}

export function shortenedConfig(config: ModelConfig): ModelConfig {
  const indexes = representativeLayers(config);
  return {
    ...config,
    layers: indexes.length,
    layerRotary: indexes.map((index) => config.layerRotary[index]!),
    layerWindow: indexes.map((index) => config.layerWindow[index]!),
  };
}

/** In the checkpoint's order. */
function representativeLayers({ layers, layerRotary, layerWindow }: ModelConfig): number[] {
  const firstOfKind = new Map<string, number>();
  for (let layer = layers - 1; layer >= 0; layer--) {
    firstOfKind.set(`${layerRotary[layer]} ${layerWindow[layer]}`, layer);
  }
  const chosen = new Set(firstOfKind.values());
  for (let layer = 0; layer < layers && chosen.size < leastLayers; layer++) chosen.add(layer);
  return [...chosen].sort((one, other) => one - other);
}
