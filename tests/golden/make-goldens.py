"""Writes tests/golden/cases/: tiny random checkpoints, two PEFT adapters each, and what
transformers + PEFT compute from them in float32 with eager attention. See README.md.

    python make-goldens.py [case ...]      (no name: every case)

Which cases there are is golden_cases.py's business. Every output is computed from the files
as written, so a reader of the files has exactly the oracle's numbers.
"""

import json
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.cache_utils import DynamicCache

from golden_cases import CASES, Adapter, Case

CASES_DIR = Path(__file__).parent / "cases"
GREEDY_TOKENS = 24
FIRST_ORDINARY_ID = 4  # 0 to 3 are pad, bos and two eos
MAX_SEEDS = 20
MAX_PROMPTS = 30  # tried per length and seed

# What a seed must give, so that a right engine passes and a wrong one does not.
MIN_TOP_MARGIN = 1e-2  # between the best two logits at every greedy step
MIN_DISTINCT_GREEDY = 5
MAX_FLOAT64_DIFFERENCE = 5e-5  # log-probabilities in float32 against float64


# ---- the checkpoint -------------------------------------------------------------------------


def weight_std(name: str) -> float:
    """Spreads at which attention looks at particular tokens and the next token is peaked."""
    if "embed_tokens" in name:
        return 0.3
    if "lm_head" in name:
        return 0.25
    if any(part in name for part in ("q_proj", "k_proj", "qkv_proj")):
        return 0.2
    return 0.15


def norm_spread(model_type: str, name: str) -> tuple[float, float]:
    """Mean and std of a norm's weights."""
    if model_type != "gemma3_text":
        return 1.0, 0.2
    # Gemma adds the 1 itself. A random model whose scaled embedding is also its head repeats its
    # last token for ever, unless the layers add much and the final norm takes factors of both signs.
    if name == "model.norm.weight":
        return -1.0, 1.0
    return (1.5 if "post_" in name else 0.0), 0.2


def randomize(model: torch.nn.Module, generator: torch.Generator) -> None:
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            mean, std = norm_spread(model.config.model_type, name)
            parameter.data = mean + std * noise
        elif name.endswith("bias"):
            parameter.data = 0.3 * noise
        else:
            parameter.data = weight_std(name) * noise


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def classical_config(case: Case) -> dict:
    return {**case.config, "torch_dtype": case.dtype, "transformers_version": "4.52.0"}


def write_checkpoint(case: Case, directory: Path, generator: torch.Generator) -> None:
    """Writes the weights by save_pretrained, then config.json in the case's format."""
    write_json(directory / "config.json", classical_config(case))
    dtype = getattr(torch, case.dtype)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory), dtype=torch.float32)
    randomize(model, generator)
    model.to(dtype).save_pretrained(directory, max_shard_size=case.shard_size)
    if not case.new_format:
        write_json(directory / "config.json", classical_config(case))
    (directory / "generation_config.json").unlink(missing_ok=True)
    if case.generation_config:
        write_json(directory / "generation_config.json", case.generation_config)


def load_base(directory: Path) -> torch.nn.Module:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def write_adapter(base_dir: Path, name: str, adapter: Adapter, generator: torch.Generator) -> None:
    config = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, bias="none", **adapter.lora)
    model = get_peft_model(load_base(base_dir), config)
    for parameter_name, parameter in model.named_parameters():
        if "lora_" in parameter_name:
            std = parameter.shape[1] ** -0.5 if "lora_A" in parameter_name else 0.15
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = (std * noise).to(getattr(torch, adapter.dtype))
    directory = base_dir / "adapters" / name
    model.save_pretrained(directory, save_embedding_layers=False)
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    saved = json.loads((directory / "adapter_config.json").read_text())
    saved["base_model_name_or_path"] = f"cotenant/golden-{base_dir.name}"  # PEFT wrote this machine's path
    if isinstance(saved["target_modules"], list):
        saved["target_modules"].sort()  # a set to PEFT; sorted, a rerun writes the same bytes
    write_json(directory / "adapter_config.json", saved)


# ---- the oracle -----------------------------------------------------------------------------


def reset_dynamic_rope(model: torch.nn.Module) -> None:
    """Dynamic NTK keeps the longest length it has seen; without this a run depends on earlier ones."""
    for module in model.modules():
        if getattr(module, "rope_type", None) == "dynamic":
            module.inv_freq = module.original_inv_freq
            module.max_seq_len_cached = module.original_max_seq_len


@torch.no_grad()
def forward(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """One forward pass over all of `ids`, no cache. [tokens, vocab]"""
    reset_dynamic_rope(model)
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def greedy_by_full_passes(model: torch.nn.Module, prompt: list[int]) -> torch.Tensor:
    """Logits of each greedy step, every step one full pass. [steps, vocab]"""
    ids, steps = list(prompt), []
    for _ in range(GREEDY_TOKENS):
        steps.append(forward(model, ids)[-1])
        ids.append(int(steps[-1].argmax()))
    return torch.stack(steps)


@torch.no_grad()
def greedy_with_cache(model: torch.nn.Module, prompt: list[int]) -> torch.Tensor:
    """As above, but as `generate` does it: keys stay as they were rotated when written."""
    reset_dynamic_rope(model)
    cache, pending, steps = DynamicCache(config=model.config), list(prompt), []
    for _ in range(GREEDY_TOKENS):
        logits = model(input_ids=torch.tensor([pending]), past_key_values=cache, use_cache=True).logits[0]
        steps.append(logits[-1])
        pending = [int(steps[-1].argmax())]
    return torch.stack(steps)


def past_original_context(case: Case, prompt: list[int]) -> bool:
    dynamic = (case.config.get("rope_scaling") or {}).get("rope_type") == "dynamic"
    return dynamic and len(prompt) + GREEDY_TOKENS > case.config["max_position_embeddings"]


def rounded(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]


def run_prompt(model: torch.nn.Module, case: Case, prompt: list[int]) -> tuple[dict, list[str]]:
    """The golden record of one prompt under the active adapter, and what is wrong with it."""
    logprobs = forward(model, prompt).log_softmax(-1)
    cached = past_original_context(case, prompt)
    steps = (greedy_with_cache if cached else greedy_by_full_passes)(model, prompt)
    greedy = steps.argmax(-1)
    top = steps.topk(2, dim=-1).values
    length = len(prompt)
    positions = [length - 1, length // 2, length // 4]
    of_tokens = logprobs[torch.arange(length - 1), torch.tensor(prompt[1:])]
    record = {
        "positions": positions,
        "logprobs": [rounded(logprobs[position]) for position in positions],
        "tokenLogprobs": [None, *rounded(of_tokens)],
        "greedy": greedy.tolist(),
        "greedyLogprobs": rounded(steps.log_softmax(-1).max(-1).values),
        **({"greedyCached": True} if cached else {}),
    }
    problems = []
    if (top[:, 0] - top[:, 1]).min() < MIN_TOP_MARGIN:
        problems.append("near-tie")
    if len(set(record["greedy"])) < MIN_DISTINCT_GREEDY:
        problems.append("monotonous greedy text")
    exact = forward(model.double(), prompt).log_softmax(-1)
    model.float()
    if (exact - logprobs).abs().max() > MAX_FLOAT64_DIFFERENCE:
        problems.append("ill-conditioned in float32")
    return record, problems


def load_with_adapters(directory: Path) -> PeftModel:
    model = PeftModel.from_pretrained(load_base(directory), directory / "adapters" / "wide", adapter_name="wide")
    model.load_adapter(directory / "adapters" / "narrow", adapter_name="narrow")
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    return model.eval()


def run_adapters(model: PeftModel, case: Case, prompt: list[int]) -> tuple[list[dict], set[str]]:
    """One prompt without an adapter and with each; and what is wrong with it as a golden."""
    runs, problems = [], set()
    for adapter in (None, "wide", "narrow"):
        if adapter:
            model.set_adapter(adapter)
        with nullcontext() if adapter else model.disable_adapter():
            record, found = run_prompt(model, case, prompt)
        runs.append({"adapter": adapter, **record})
        problems.update(found)
        if found:
            return runs, problems
    if len({tuple(run["greedy"]) for run in runs}) < len(runs):
        problems.add("an adapter does not change the greedy text")
    return runs, problems


def find_prompt(model: PeftModel, case: Case, length: int, generator: torch.Generator) -> tuple[list[int], list[dict]]:
    """A random prompt of that length on which all three runs are good goldens; [] where none is found."""
    rejected: Counter[str] = Counter()
    for _ in range(MAX_PROMPTS):
        prompt = torch.randint(FIRST_ORDINARY_ID, case.config["vocab_size"], (length,), generator=generator).tolist()
        runs, problems = run_adapters(model, case, prompt)
        if not problems:
            return prompt, runs
        rejected.update(problems)
    print(f"  no prompt of {length} tokens: {dict(rejected)}", flush=True)
    return [], []


def check_both_formats(case: Case, directory: Path, prompt: list[int]) -> None:
    """The classical config.json and transformers' own must load to the very same model."""
    with tempfile.TemporaryDirectory() as scratch:
        other = Path(scratch)
        for file in directory.glob("model*"):
            shutil.copy(file, other)
        if case.new_format:
            write_json(other / "config.json", classical_config(case))
        else:
            AutoConfig.from_pretrained(directory).save_pretrained(other)
        written = [json.loads((at / "config.json").read_text()) for at in (directory, other)]
        assert sum("rope_parameters" in config for config in written) == 1, "both configs are in one format"
        assert torch.equal(forward(load_base(directory), prompt), forward(load_base(other), prompt))


# ---- one case -------------------------------------------------------------------------------


def write_golden(path: Path, golden: dict) -> None:
    """JSON with one line per run, so that a diff names the run."""
    runs = ",\n".join("  " + json.dumps(run, separators=(",", ":")) for run in golden["runs"])
    head = {key: value for key, value in golden.items() if key != "runs"}
    body = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
    path.write_text("{\n" + body + ' "runs": [\n' + runs + "\n ]\n}\n")


def try_seed(case: Case, directory: Path, seed: int) -> dict | None:
    """Writes checkpoint and adapters; the golden record, or None where some prompt length has none."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    write_checkpoint(case, directory, generator)
    write_adapter(directory, "wide", case.wide, generator)
    write_adapter(directory, "narrow", case.narrow, generator)
    model = load_with_adapters(directory)
    prompts, runs = [], []
    for length in case.prompt_lengths:
        prompt, found = find_prompt(model, case, length, generator)
        if not prompt:
            return None
        runs += [{"adapter": run.pop("adapter"), "prompt": len(prompts), **run} for run in found]
        prompts.append(prompt)
    versions = {module.__name__: module.__version__ for module in (transformers, peft, torch)}
    return {"seed": seed, "prompts": prompts, **versions, "runs": runs}


def make_case(name: str, case: Case) -> None:
    directory = CASES_DIR / name
    for seed in range(1, MAX_SEEDS + 1):
        golden = try_seed(case, directory, seed)
        if golden:
            break
    else:
        raise RuntimeError(f"{name}: none of {MAX_SEEDS} seeds is good; change the case's shape or the spreads")
    check_both_formats(case, directory, golden["prompts"][-1])
    write_golden(directory / "golden.json", golden)
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    print(f"{name}: seed {seed}, {size // 1024} KiB", flush=True)


def main() -> None:
    torch.set_num_threads(1)  # and so one order of summation
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    names = sys.argv[1:] or list(CASES)
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        raise SystemExit(f"unknown case {', '.join(unknown)}; known: {', '.join(CASES)}")
    for name in names:
        make_case(name, CASES[name])


main()
