"""Writes adapters/ and merged.safetensors here: two LoRA adapters as PEFT saves them, and what PEFT's
add_weighted_adapter makes of them, as dense changes of the weights. See README.md.

    python make-goldens.py
"""

import json
import shutil
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
BASE = HERE.parent / "golden-peft-kinds" / "bases" / "llama"
ADAPTERS = {  # ranks, scales and targets all differ
    "first": {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "down_proj"]},
    "second": {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "down_proj", "lm_head"]},
}
WEIGHTS, EQUAL_WEIGHTS = [0.7, -0.4], [0.6, 0.6]
MERGES = {
    "cat": (WEIGHTS, {"combination_type": "cat"}),
    "svd": (WEIGHTS, {"combination_type": "svd", "svd_rank": 3}),
    # with equal weights PEFT's vote, which ignores them, is the one of the paper
    "ties": (EQUAL_WEIGHTS, {"combination_type": "ties_svd", "svd_rank": 4, "density": 0.4}),
}


def load_base() -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()


def write_adapter(name: str, generator: torch.Generator) -> None:
    model = get_peft_model(load_base(), LoraConfig(**ADAPTERS[name], task_type="CAUSAL_LM"))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    directory = HERE / "adapters" / name
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    config = json.loads((directory / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "cotenant/golden-llama"  # PEFT wrote this machine's path
    config["target_modules"].sort()  # a set to PEFT; sorted, a rerun writes the same bytes
    (directory / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)  # and so one order of summation
    transformers.logging.set_verbosity_error()
    shutil.rmtree(HERE / "adapters", ignore_errors=True)
    for seed, name in enumerate(ADAPTERS):
        write_adapter(name, torch.Generator().manual_seed(seed))
    model = load_base()
    for name in ADAPTERS:
        directory = HERE / "adapters" / name
        if isinstance(model, PeftModel):
            model.load_adapter(directory, adapter_name=name)
        else:
            model = PeftModel.from_pretrained(model, directory, adapter_name=name)
    changes = {}
    for merge, (weights, options) in MERGES.items():
        model.add_weighted_adapter(list(ADAPTERS), weights, merge, **options)
        for path, module in model.named_modules():
            if merge in getattr(module, "lora_A", {}):
                place = path.removeprefix("base_model.model.").removeprefix("model.")
                changes[f"{merge}.{place}"] = module.get_delta_weight(merge).contiguous()
    save_file(changes, HERE / "merged.safetensors", metadata={m.__name__: m.__version__ for m in (peft, torch)})
    print(f"{len(changes)} changes")


main()
