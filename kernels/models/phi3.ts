// Phi-3 and Phi-4-mini: q, k and v stored as one tensor, gate and up as another; part of a head may rotate.

import { commonConfig } from "../model-config.ts";
import { type LinearTensors, llamaLayer, type ModelFamily } from "../model-family.ts";

export const phi3: ModelFamily = {
  normOffset: 0,
  config(raw) {
    const config = commonConfig(raw, "phi3", { normEpsilon: 1e-5 });
    const scaling = config.rotaries[0]!.scaling.type;
    if (scaling !== "default")
      throw raw.error("rope_scaling", `phi3 is served without scaling, not with ${scaling}`);
    const window = raw.has("sliding_window") ? raw.size("sliding_window") : null;
    return { ...config, layerWindow: config.layerWindow.map(() => window) };
  },
  layer(config, index) {
    const layer = llamaLayer(config, index, { qkv: false, o: false, mlp: false });
    const prefix = `model.layers.${index}`;
    const [q, k, v] = fused(`${prefix}.self_attn.qkv_proj.weight`, [layer.q, layer.k, layer.v]);
    const [gate, up] = fused(`${prefix}.mlp.gate_up_proj.weight`, [layer.gate, layer.up]);
    return { ...layer, q: q!, k: k!, v: v!, gate: gate!, up: up! };
  },
};

/** Consecutive row ranges of one stored tensor. */
function fused(name: string, parts: readonly LinearTensors[]): LinearTensors[] {
  const storedRows = parts.reduce((sum, part) => sum + part.weight.rows, 0);
  let firstRow = 0;
  return parts.map(({ weight }) => {
    const slice = { name, firstRow, rows: weight.rows, storedRows };
    firstRow += weight.rows;
    return { weight: slice, bias: null };
  });
}
