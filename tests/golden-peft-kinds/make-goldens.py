"""Writes bases/ and adapters/ here: tiny random checkpoints, one PEFT adapter of every kind that is
decoded, and the log-probabilities that transformers + PEFT compute with it. See README.md.

    python make-goldens.py

Every output is computed from the files as written and loaded anew, so a reader of the files has
exactly the oracle's numbers.
"""

import json
import shutil
from pathlib import Path

import peft
import torch
import transformers
from peft import PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent
PROMPT = [5, 17, 40, 9, 3, 22, 31, 8, 44, 12, 27]
MIN_EFFECT = 0.05  # of an adapter on some log-probability, so that an ignored one is seen
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]

SHAPE = {
    "hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 64, "num_attention_heads": 4,
    "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "vocab_size": 48, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}
BASES = {
    # head_dim is not hidden / heads: a prefix laid out by the latter is seen
    "llama": {"model_type": "llama", **SHAPE, "head_dim": 8, "tie_word_embeddings": False},
    # biases on q, k and v; a tied head
    "qwen2": {"model_type": "qwen2", **SHAPE, "tie_word_embeddings": True, "use_sliding_window": False},
    # fused projections
    "phi3": {"model_type": "phi3", **SHAPE, "tie_word_embeddings": False, "sliding_window": None},
    # embeddings that are scaled; one layer with a window
    "gemma3": {
        "model_type": "gemma3_text", **SHAPE, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6,
        "sliding_window_pattern": 2, "rope_local_base_freq": 100,
    },
}

LORA = {"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM"}
PROMPT_LEARNING = {"num_virtual_tokens": 3, "task_type": "CAUSAL_LM"}


def kinds(base: str) -> dict[str, tuple[type, dict]]:
    """The adapters of a base, by name: PEFT's config class and its fields."""
    lora = peft.LoraConfig
    if base == "phi3":
        fused = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
        return {
            "lora": (lora, {**LORA, "target_modules": fused}),
            "dora": (lora, {**LORA, "use_dora": True, "target_modules": fused}),
            "ia3": (peft.IA3Config, {"target_modules": ["qkv_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
        }
    if base == "gemma3":
        return {
            "embedding": (lora, {**LORA, "target_modules": ["embed_tokens", "q_proj"]}),
            "prompt": (peft.PromptTuningConfig, PROMPT_LEARNING),
            "prefix": (peft.PrefixTuningConfig, PROMPT_LEARNING),
        }
    both = {
        "lora": (lora, {**LORA, "target_modules": ATTENTION + MLP}),
        "rslora": (lora, {**LORA, "use_rslora": True, "target_modules": ["q_proj", "v_proj"]}),
        "dora": (lora, {**LORA, "use_dora": True, "target_modules": ATTENTION + MLP}),
        "lora-bias": (lora, {**LORA, "lora_bias": True, "target_modules": ["k_proj", "down_proj"]}),
        "embedding-head": (
            lora, {**LORA, "target_modules": ["embed_tokens", "lm_head"], "alpha_pattern": {"lm_head": 3}}
        ),
        "ia3": (
            peft.IA3Config,
            {"target_modules": ["k_proj", "v_proj", "up_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
        ),
        "vera": (peft.VeraConfig, {"r": 6, "target_modules": ["q_proj", "v_proj", "down_proj"]}),
        "loha": (
            peft.LoHaConfig, {"r": 3, "alpha": 5, "rank_pattern": {"o_proj": 2}, "target_modules": ["q_proj", "o_proj"]}
        ),
        # the second factor as a product, then both, then none
        "lokr": (peft.LoKrConfig, {"r": 2, "alpha": 3, "target_modules": ["q_proj", "k_proj", "down_proj"]}),
        "lokr-both": (
            peft.LoKrConfig,
            {"r": 1, "alpha": 2, "decompose_both": True, "decompose_factor": 4, "target_modules": ["v_proj", "gate_proj"]},
        ),
        "lokr-whole": (peft.LoKrConfig, {"r": 8, "alpha": 3, "target_modules": ["q_proj", "up_proj"]}),
        "prefix": (peft.PrefixTuningConfig, PROMPT_LEARNING),
        "prefix-projected": (
            peft.PrefixTuningConfig, {**PROMPT_LEARNING, "prefix_projection": True, "encoder_hidden_size": 8}
        ),
        "prompt": (peft.PromptTuningConfig, PROMPT_LEARNING),
        "p-tuning": (peft.PromptEncoderConfig, {**PROMPT_LEARNING, "encoder_hidden_size": 8}),
    }
    if base == "qwen2":  # bases without a bias have none to train
        both["bias"] = (lora, {**LORA, "bias": "lora_only", "target_modules": ["q_proj", "v_proj", "up_proj"]})
        both["bias-all"] = (lora, {**LORA, "bias": "all", "target_modules": ["q_proj"]})
        both["dora-bias"] = (
            lora, {**LORA, "use_dora": True, "bias": "lora_only", "target_modules": ["q_proj", "o_proj"]}
        )
    return both


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_base(name: str, generator: torch.Generator) -> None:
    directory = HERE / "bases" / name
    directory.mkdir(parents=True)
    write_json(directory / "config.json", BASES[name])
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory), dtype=torch.float32)
    for parameter_name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in parameter_name:
            parameter.data = (0.0 if name == "gemma3" else 1.0) + 0.2 * noise
        else:
            parameter.data = 0.3 * noise
    # bfloat16 on disk: the norm of DoRA is taken over what is stored, widened
    model.to(torch.bfloat16).save_pretrained(directory)
    write_json(directory / "config.json", BASES[name])
    (directory / "generation_config.json").unlink(missing_ok=True)


def load_base(name: str) -> torch.nn.Module:
    model = AutoModelForCausalLM.from_pretrained(
        HERE / "bases" / name, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def write_adapter(base: str, name: str, generator: torch.Generator) -> None:
    """As trained: every parameter that PEFT would train, moved away from its start."""
    config_class, fields = kinds(base)[name]
    model = get_peft_model(load_base(base), config_class(**fields))
    for parameter_name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if "magnitude" in parameter_name or "ia3_l" in parameter_name:
            parameter.data = parameter.data * (1 + 0.3 * noise)
        elif "prompt_encoder" in parameter_name:
            parameter.data = 0.7 * noise
        else:
            parameter.data = parameter.data + 0.3 * noise
    directory = HERE / "adapters" / f"{base}-{name}"
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    saved = json.loads((directory / "adapter_config.json").read_text())
    saved["base_model_name_or_path"] = f"cotenant/golden-{base}"  # PEFT wrote this machine's path
    for key in ("target_modules", "feedforward_modules"):
        if isinstance(saved.get(key), list):
            saved[key].sort()  # a set to PEFT; sorted, a rerun writes the same bytes
    write_json(directory / "adapter_config.json", saved)


@torch.no_grad()
def logprobs(model: torch.nn.Module) -> torch.Tensor:
    """Of the prompt's own positions, [tokens, vocab]: virtual tokens give outputs too, in front."""
    logits = model(input_ids=torch.tensor([PROMPT])).logits[0]
    return logits[-len(PROMPT):].log_softmax(-1)


def make_adapter(base: str, name: str) -> None:
    seed = 100 * sorted(BASES).index(base) + sorted(kinds(base)).index(name)
    torch.manual_seed(seed)  # PEFT's own starting values
    write_adapter(base, name, torch.Generator().manual_seed(seed))
    directory = HERE / "adapters" / f"{base}-{name}"
    model = PeftModel.from_pretrained(load_base(base), directory).eval()
    found = logprobs(model)
    effect = (found - logprobs(load_base(base))).abs().max()
    assert effect > MIN_EFFECT, f"{base}-{name} changes nothing: {effect}"
    exact = logprobs(model.double()) if name not in ("prompt", "p-tuning", "prefix", "prefix-projected") else found
    assert (exact - found).abs().max() < 1e-5, f"{base}-{name} is ill-conditioned"
    golden = {
        "base": base,
        "prompt": PROMPT,
        "logprobs": [[float(f"{value:.7g}") for value in row] for row in found.tolist()],
        **{module.__name__: module.__version__ for module in (transformers, peft, torch)},
    }
    (directory / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    size = sum(file.stat().st_size for file in directory.iterdir())
    print(f"{base}-{name}: effect {effect:.2f}, {size / 1024:.1f} KiB", flush=True)


def main() -> None:
    torch.set_num_threads(1)  # and so one order of summation
    transformers.logging.set_verbosity_error()
    for folder in ("bases", "adapters"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
    for seed, base in enumerate(BASES):
        write_base(base, torch.Generator().manual_seed(seed))
        for name in kinds(base):
            make_adapter(base, name)


main()
