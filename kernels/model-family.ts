// The contract of a model family: how its config.json reads, and under which names its tensors lie.
// A new dense family is one file in kernels/models and one line in its index.

import type { AdapterTargets } from "./adapter.ts";
import type { ModelConfig, RawConfig } from "./model-config.ts";

/** Rows [firstRow, firstRow + rows) of a stored tensor; the whole tensor where no rows are named. */
export type TensorSlice = {
  readonly name: string;
  readonly firstRow: number;
  readonly rows: number;
  readonly storedRows: number; // of the whole tensor
};

export type LinearTensors = { readonly weight: TensorSlice; readonly bias: TensorSlice | null };

export type LayerTensors = {
  readonly q: LinearTensors; // [heads * headDim, hidden]
  readonly k: LinearTensors; // [kvHeads * headDim, hidden]
  readonly v: LinearTensors; // [kvHeads * headDim, hidden]
  readonly o: LinearTensors; // [hidden, heads * headDim]
  readonly gate: LinearTensors; // [intermediate, hidden]
  readonly up: LinearTensors; // [intermediate, hidden]
  readonly down: LinearTensors; // [hidden, intermediate]
  readonly attentionNorm: string; // [hidden], before attention
  readonly mlpNorm: string; // [hidden], before the MLP
  readonly queryNorm: string | null; // [headDim]
  readonly keyNorm: string | null; // [headDim]
  readonly attentionOutputNorm: string | null; // [hidden], on what attention adds to the residual
  readonly mlpOutputNorm: string | null; // [hidden], on what the MLP adds to the residual
};

export interface ModelFamily {
  config(raw: RawConfig): ModelConfig;
  layer(config: ModelConfig, index: number, raw: RawConfig): LayerTensors;
  /** What is added to every norm weight: Gemma stores the difference from one. */
  readonly normOffset: 0 | 1;
}

export const embeddingTensor = "model.embed_tokens.weight"; // [vocab, hidden]
export const finalNormTensor = "model.norm.weight"; // [hidden]
export const headTensor = "lm_head.weight"; // [vocab, hidden]

/** The layout that Llama gave to everybody: seven projections, two norms. */
export function llamaLayer(
  config: ModelConfig,
  index: number,
  biases: { readonly qkv: boolean; readonly o: boolean; readonly mlp: boolean },
): LayerTensors {
  const prefix = `model.layers.${index}`;
  const linear = (name: string, rows: number, bias: boolean): LinearTensors => ({
    weight: whole(`${prefix}.${name}.weight`, rows),
    bias: bias ? whole(`${prefix}.${name}.bias`, rows) : null,
  });
  const { q, k, v, o, gate, up, down } = adapterTargets(config).shapes;
  return {
    q: linear("self_attn.q_proj", q.out, biases.qkv),
    k: linear("self_attn.k_proj", k.out, biases.qkv),
    v: linear("self_attn.v_proj", v.out, biases.qkv),
    o: linear("self_attn.o_proj", o.out, biases.o),
    gate: linear("mlp.gate_proj", gate.out, biases.mlp),
    up: linear("mlp.up_proj", up.out, biases.mlp),
    down: linear("mlp.down_proj", down.out, biases.mlp),
    attentionNorm: `${prefix}.input_layernorm.weight`,
    mlpNorm: `${prefix}.post_attention_layernorm.weight`,
    queryNorm: null,
    keyNorm: null,
    attentionOutputNorm: null,
    mlpOutputNorm: null,
  };
}

export function whole(name: string, rows: number): TensorSlice {
  return { name, firstRow: 0, rows, storedRows: rows };
}

/** Shapes that adapters of this base must have. */
export function adapterTargets(config: ModelConfig): AdapterTargets {
  const { hiddenSize: hidden, intermediateSize: intermediate, headDim } = config;
  const query = config.heads * headDim;
  const keyValue = config.kvHeads * headDim;
  return {
    layers: config.layers,
    shapes: {
      q: { in: hidden, out: query },
      k: { in: hidden, out: keyValue },
      v: { in: hidden, out: keyValue },
      o: { in: query, out: hidden },
      gate: { in: hidden, out: intermediate },
      up: { in: hidden, out: intermediate },
      down: { in: intermediate, out: hidden },
    },
    hiddenSize: hidden,
    vocabSize: config.vocabSize,
    kvHeads: config.kvHeads,
    headDim,
  };
}
