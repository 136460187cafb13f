// The published shapes that make-model can write: config.json as its model has it, and the special tokens at
// their published ids.

export type ModelShape = {
  readonly config: Readonly<Record<string, unknown>> & { readonly vocab_size: number };
  readonly specialTokens: Readonly<Record<string, number>>;
  readonly bosToken: string | null; // put before every prompt
  readonly eosTokens: readonly string[];
  readonly chatTemplate: string;
};

const chatMl = `{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}`;

const llama3Chat = `{{- bos_token -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}`;

const llama = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_act: "silu",
  attention_bias: false,
  attention_dropout: 0,
  mlp_bias: false,
  pretraining_tp: 1,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
  torch_dtype: "bfloat16",
  use_cache: true,
};

const qwenTokens = { "<|endoftext|>": 151_643, "<|im_start|>": 151_644, "<|im_end|>": 151_645 };
const smolTokens = { "<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2 };

export const modelShapes = {
  /** For tests of the machinery: every part of a Llama, a second to write. */
  tiny: {
    config: {
      ...llama,
      bos_token_id: 1,
      eos_token_id: 2,
      hidden_size: 128,
      initializer_range: 0.02,
      intermediate_size: 352,
      max_position_embeddings: 2048,
      num_attention_heads: 4,
      num_hidden_layers: 4,
      num_key_value_heads: 2,
      rope_scaling: null,
      rope_theta: 10_000,
      vocab_size: 2048,
    },
    specialTokens: smolTokens,
    bosToken: null,
    eosTokens: ["<|im_end|>"],
    chatTemplate: chatMl,
  },
  /** HuggingFaceTB/SmolLM2-135M-Instruct */
  "smollm2-135m": {
    config: {
      ...llama,
      bos_token_id: 1,
      eos_token_id: 2,
      hidden_size: 576,
      initializer_range: 0.041666666666666664,
      intermediate_size: 1536,
      max_position_embeddings: 8192,
      num_attention_heads: 9,
      num_hidden_layers: 30,
      num_key_value_heads: 3,
      pad_token_id: 2,
      rope_interleaved: false,
      rope_scaling: null,
      rope_theta: 100_000,
      vocab_size: 49_152,
    },
    specialTokens: smolTokens,
    bosToken: null,
    eosTokens: ["<|im_end|>"],
    chatTemplate: chatMl,
  },
  /** Qwen/Qwen2.5-0.5B-Instruct */
  "qwen2.5-0.5b": {
    config: {
      architectures: ["Qwen2ForCausalLM"],
      model_type: "qwen2",
      attention_dropout: 0,
      bos_token_id: 151_643,
      eos_token_id: 151_645,
      hidden_act: "silu",
      hidden_size: 896,
      initializer_range: 0.02,
      intermediate_size: 4864,
      max_position_embeddings: 32_768,
      max_window_layers: 21,
      num_attention_heads: 14,
      num_hidden_layers: 24,
      num_key_value_heads: 2,
      rms_norm_eps: 1e-6,
      rope_theta: 1_000_000,
      sliding_window: 32_768,
      tie_word_embeddings: true,
      torch_dtype: "bfloat16",
      use_cache: true,
      use_sliding_window: false,
      vocab_size: 151_936,
    },
    specialTokens: qwenTokens,
    bosToken: null,
    eosTokens: ["<|im_end|>", "<|endoftext|>"],
    chatTemplate: chatMl,
  },
  /** Qwen/Qwen3-0.6B */
  "qwen3-0.6b": {
    config: {
      architectures: ["Qwen3ForCausalLM"],
      model_type: "qwen3",
      attention_bias: false,
      attention_dropout: 0,
      bos_token_id: 151_643,
      eos_token_id: 151_645,
      head_dim: 128,
      hidden_act: "silu",
      hidden_size: 1024,
      initializer_range: 0.02,
      intermediate_size: 3072,
      max_position_embeddings: 40_960,
      max_window_layers: 28,
      num_attention_heads: 16,
      num_hidden_layers: 28,
      num_key_value_heads: 8,
      rms_norm_eps: 1e-6,
      rope_scaling: null,
      rope_theta: 1_000_000,
      sliding_window: null,
      tie_word_embeddings: true,
      torch_dtype: "bfloat16",
      use_cache: true,
      use_sliding_window: false,
      vocab_size: 151_936,
    },
    specialTokens: qwenTokens,
    bosToken: null,
    eosTokens: ["<|im_end|>", "<|endoftext|>"],
    chatTemplate: chatMl,
  },
  /** meta-llama/Llama-3.2-1B-Instruct */
  "llama-3.2-1b": {
    config: {
      ...llama,
      bos_token_id: 128_000,
      eos_token_id: [128_001, 128_008, 128_009],
      head_dim: 64,
      hidden_size: 2048,
      initializer_range: 0.02,
      intermediate_size: 8192,
      max_position_embeddings: 131_072,
      num_attention_heads: 32,
      num_hidden_layers: 16,
      num_key_value_heads: 8,
      rope_scaling: {
        factor: 32,
        high_freq_factor: 4,
        low_freq_factor: 1,
        original_max_position_embeddings: 8192,
        rope_type: "llama3",
      },
      rope_theta: 500_000,
      vocab_size: 128_256,
    },
    specialTokens: {
      "<|begin_of_text|>": 128_000,
      "<|end_of_text|>": 128_001,
      "<|start_header_id|>": 128_006,
      "<|end_header_id|>": 128_007,
      "<|eom_id|>": 128_008,
      "<|eot_id|>": 128_009,
    },
    bosToken: "<|begin_of_text|>",
    eosTokens: ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
    chatTemplate: llama3Chat,
  },
} as const satisfies Record<string, ModelShape>;
export type ModelShapeName = keyof typeof modelShapes;
