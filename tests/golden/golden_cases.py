"""The table of parity cases: what each tiny checkpoint and its two adapters look like.

Holds data only. How a case is built, run and checked is make-goldens.py's business.
Configs are in the field names of published checkpoints; a case with `new_format` is written
to disk in the installed transformers' own names instead.
"""

from dataclasses import dataclass
from typing import Any

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Adapter:
    """Arguments for peft.LoraConfig, and the type its tensors are stored in."""

    lora: dict[str, Any]
    dtype: str = "float32"


@dataclass(frozen=True)
class Case:
    config: dict[str, Any]
    narrow: Adapter
    wide: Adapter = Adapter({"r": 8, "lora_alpha": 16, "target_modules": ATTENTION + MLP}, "float16")
    dtype: str = "float16"
    shard_size: str = "50GB"
    new_format: bool = False
    prompt_lengths: tuple[int, int, int] = (3, 12, 30)
    generation_config: dict[str, Any] | None = None


SHAPE = {
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "use_cache": True,
    "vocab_size": 160,
}
IDS = {"bos_token_id": 1, "eos_token_id": 2}


def llama(**fields: Any) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", **SHAPE, **IDS,
        "attention_bias": False, "mlp_bias": False, "pretraining_tp": 1, "rope_scaling": None, **fields,
    }


def qwen2(**fields: Any) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **SHAPE, **IDS,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "max_window_layers": 1, "sliding_window": 8,
        "use_sliding_window": False, "tie_word_embeddings": True, **fields,
    }


def gemma3(**fields: Any) -> dict[str, Any]:
    # hidden_size 96: sqrt(96) is inexact in 16 bits, so a rounded embedding scale shows.
    # query_pre_attn_scalar differs from head_dim, so the wrong one shows.
    config = {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", **SHAPE, **IDS,
        "attention_bias": False, "attn_logit_softcapping": None, "final_logit_softcapping": None,
        "eos_token_id": [2, 3], "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 96,
        "num_key_value_heads": 1, "pad_token_id": 0, "query_pre_attn_scalar": 24, "rms_norm_eps": 1e-6,
        "rope_local_base_freq": 10000, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 8,
        "sliding_window_pattern": 2, **fields,
    }
    del config["hidden_act"], config["tie_word_embeddings"]  # published ones leave both to the default
    return config


def phi3(**fields: Any) -> dict[str, Any]:
    return {
        "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", **SHAPE, **IDS,
        "attention_bias": False, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "original_max_position_embeddings": 512,
        "pad_token_id": 0, "rope_scaling": None, "sliding_window": 2047, **fields,
    }


PHI3_WIDE = Adapter(
    {"r": 8, "lora_alpha": 16, "target_modules": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]}, "float16"
)

CASES: dict[str, Case] = {
    "llama": Case(
        llama(head_dim=32),
        dtype="float32",
        wide=Adapter({"r": 8, "lora_alpha": 16, "target_modules": ATTENTION + MLP}),
        narrow=Adapter({"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}),
        generation_config={"bos_token_id": 1, "eos_token_id": [2, 3], "do_sample": True, "temperature": 0.6},
    ),
    "llama-f16-sharded-tied": Case(
        llama(tie_word_embeddings=True),
        shard_size="60KB",
        narrow=Adapter(
            {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "use_rslora": True}, "float16"
        ),
    ),
    "llama-bias": Case(
        llama(attention_bias=True, mlp_bias=True),
        new_format=True,
        narrow=Adapter(
            {"r": 4, "lora_alpha": 8, "target_modules": ["o_proj", "down_proj"], "layers_to_transform": [1]}
        ),
    ),
    # The two oldest scaling types carry the older key "type", as the checkpoints of their time do.
    "llama-rope-linear": Case(
        llama(rope_scaling={"type": "linear", "factor": 4.0}),
        narrow=Adapter(
            {
                "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"],
                "rank_pattern": {"v_proj": 6}, "alpha_pattern": {"v_proj": 3},
            }
        ),
    ),
    "llama-rope-dynamic": Case(
        # 40 holds prompt 12 + 24 greedy tokens; only the last prompt is past it.
        llama(max_position_embeddings=40, rope_scaling={"rope_type": "dynamic", "factor": 2.0}),
        prompt_lengths=(3, 12, 56),
        narrow=Adapter({"r": 4, "lora_alpha": 8, "target_modules": ["k_proj", "up_proj"]}, "float16"),
    ),
    "llama-rope-llama3": Case(
        # 128 puts two of the eight frequencies in the kept band, one in the middle, five in the divided one.
        llama(
            max_position_embeddings=1024,
            rope_scaling={
                "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                "original_max_position_embeddings": 128, "rope_type": "llama3",
            },
        ),
        narrow=Adapter(
            {
                "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "gate_proj"], "use_rslora": True,
                "rank_pattern": {"model.layers.0.self_attn.q_proj": 2},
                "alpha_pattern": {r"layers\.1\.mlp\.gate_proj": 12},
            }
        ),
    ),
    "llama-rope-yarn": Case(
        # 2048 gives the correction range [2, 6], both ends inside the eight frequencies and both rounded.
        llama(
            max_position_embeddings=8192,
            rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048},
        ),
        narrow=Adapter(
            {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "k_proj", "v_proj"], "layers_to_transform": [0]}
        ),
    ),
    "mistral": Case(
        {
            "architectures": ["MistralForCausalLM"], "model_type": "mistral", **SHAPE, **IDS,
            "head_dim": None, "sliding_window": 8,
        },
        dtype="bfloat16",
        narrow=Adapter({"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}, "bfloat16"),
    ),
    "qwen2": Case(
        qwen2(),
        narrow=Adapter({"r": 4, "lora_alpha": 8, "target_modules": ["v_proj"]}),
        generation_config={"bos_token_id": 1, "eos_token_id": [2, 3], "repetition_penalty": 1.1, "top_p": 0.8},
    ),
    "qwen2-bf16": Case(
        qwen2(tie_word_embeddings=False),
        dtype="bfloat16",
        narrow=Adapter(
            {"r": 4, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 12}}
        ),
    ),
    "qwen2-sliding": Case(
        qwen2(use_sliding_window=True, max_window_layers=1),
        narrow=Adapter({"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}, "float16"),
    ),
    "qwen3": Case(
        {
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **SHAPE, **IDS,
            "attention_bias": False, "head_dim": 32, "max_window_layers": 2, "rms_norm_eps": 1e-6,
            "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "use_sliding_window": False,
        },
        dtype="bfloat16",
        new_format=True,
        # A regular expression, which PEFT stores as a string instead of a list.
        narrow=Adapter({"r": 4, "lora_alpha": 8, "target_modules": r".*\.self_attn\.(q|o)_proj"}),
    ),
    "gemma3": Case(
        gemma3(num_hidden_layers=3),
        dtype="bfloat16",
        new_format=True,
        narrow=Adapter({"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "use_rslora": True}),
        generation_config={"bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 0, "top_k": 64, "top_p": 0.95},
    ),
    "gemma3-rope-linear": Case(
        gemma3(rope_scaling={"factor": 8.0, "rope_type": "linear"}),
        dtype="bfloat16",
        narrow=Adapter({"r": 4, "lora_alpha": 8, "target_modules": ["v_proj", "down_proj"]}, "float16"),
    ),
    "phi3": Case(
        phi3(),
        wide=PHI3_WIDE,
        narrow=Adapter({"r": 4, "lora_alpha": 8, "target_modules": ["qkv_proj"]}),
        generation_config={"bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 0},
    ),
    "phi3-partial-rotary": Case(
        phi3(partial_rotary_factor=0.75, sliding_window=8, num_key_value_heads=4),
        dtype="bfloat16",
        new_format=True,
        wide=PHI3_WIDE,
        narrow=Adapter(
            {
                "r": 4, "lora_alpha": 8, "target_modules": ["qkv_proj", "gate_up_proj"],
                "rank_pattern": {"gate_up_proj": 3}, "layers_to_transform": [1],
            }
        ),
    ),
}
