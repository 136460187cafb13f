"""Trains the demo adapters with PEFT on the saved base, measures base and adapters, and writes what ships with them.

    python train_adapters.py                  all adapters, one after another
    python train_adapters.py orders-json ...  only these
    python train_adapters.py --measure        no training: measure the saved base and adapters into training/accuracy.json
    python train_adapters.py --demo           no training: write demo.json from the saved adapters

Accuracy is the share of 100 held-out prompts whose greedy completion equals the expected text exactly.
"""

import argparse
import json
import math
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import tasks

MODEL_DIR = Path(__file__).resolve().parent.parent
ADAPTERS_DIR = MODEL_DIR / "adapters"
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Recipe:
    description: str
    example: str  # the prompt in demo.json
    rank: int
    alpha: int
    targets: list[str]
    extra: dict = field(default_factory=dict)
    steps: int = 300
    learning_rate: float = 3e-3


RECIPES = {
    "orders-json": Recipe(
        "extracts a customer's order as JSON",
        "Hello, this is Maria Lopez. Please send 12 blue lamps to Oslo.",
        rank=16, alpha=16, targets=ATTENTION + MLP, steps=400, learning_rate=2e-3),
    "ticket-router": Recipe(
        "routes a support ticket to a queue code",
        "Hi, I was charged twice for the lamp. Please help. Anna",
        rank=4, alpha=8, targets=["q_proj", "v_proj"], steps=450, learning_rate=5e-3),
    "house-style": Recipe(
        "turns a hurried note into a letter in the house style",
        "hey Tara! we can't send the lamp before Friday",
        rank=8, alpha=16, targets=ATTENTION, steps=170, extra={"use_rslora": True}),
    "query-language": Recipe(
        "translates a question to a small query language",
        "Which orders from Berlin cost more than 250?",
        rank=32, alpha=32, targets=ATTENTION + MLP, steps=150,
        extra={"rank_pattern": {"k_proj": 8, "down_proj": 16}, "alpha_pattern": {"k_proj": 16}}),
    "redact-names": Recipe(
        "replaces people's names by [NAME]",
        "Anna Rossi met Ben in Paris on Monday.",
        rank=16, alpha=16, targets=ATTENTION, steps=170),
    "review-scores": Recipe(
        "scores the aspects that a hotel review names",
        "We stayed in Rome in May. The room was clean and bright. The food was cold.",
        rank=8, alpha=16, targets=MLP, steps=250, extra={"layers_to_transform": [1, 2, 3, 4, 5]}),
}


def prompt_text(tokenizer, prompt: str) -> str:
    return tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)


def encode(tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def load_base():
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)


def batch_of(tokenizer, pairs) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels; labels are -100 outside the completion."""
    rows = [(encode(tokenizer, prompt_text(tokenizer, p)), [*encode(tokenizer, c), tokenizer.eos_token_id]) for p, c in pairs]
    width = max(len(p) + len(c) for p, c in rows)
    ids = torch.tensor([p + c + [0] * (width - len(p) - len(c)) for p, c in rows])
    labels = torch.tensor([[-100] * len(p) + c + [-100] * (width - len(p) - len(c)) for p, c in rows])
    return ids, labels


def train(task: str, recipe: Recipe, tokenizer, batch_size: int) -> dict:
    torch.manual_seed(7)
    config = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules=recipe.targets, lora_dropout=0.0,
                        task_type="CAUSAL_LM", base_model_name_or_path="models/tiny", **recipe.extra)
    model = get_peft_model(load_base(), config)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.01)
    # similar lengths share a batch, so that little is padding
    pairs = tasks.training(task, recipe.steps * batch_size)
    batches = [sorted(pairs[at:at + batch_size * 10], key=lambda pair: len(pair[0]) + len(pair[1]))
               for at in range(0, len(pairs), batch_size * 10)]
    batches = [group[at:at + batch_size] for group in batches for at in range(0, len(group), batch_size)]
    random.Random(7).shuffle(batches)

    start = time.time()
    for step, batch in enumerate(batches):
        rate = recipe.learning_rate * min(1, (step + 1) / 20) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)))
        optimizer.param_groups[0]["lr"] = rate
        ids, labels = batch_of(tokenizer, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.base_model.model.model(input_ids=ids).last_hidden_state[:, :-1]
            counted = labels[:, 1:] != -100
            logits = model.base_model.model.lm_head(hidden[counted])
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][counted])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 25 == 0 or step == recipe.steps - 1:
            print(f"{task} step {step} loss {loss.item():.4f} {time.time() - start:.0f} s", flush=True)
    save_adapter(model, ADAPTERS_DIR / task)
    return {"seconds": round(time.time() - start), "final_loss": round(loss.item(), 4), "examples": len(pairs)}


def save_adapter(model, directory: Path) -> None:
    """save_pretrained, then weights in f16 and no path of this machine in the config."""
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    weights_file = directory / "adapter_model.safetensors"
    save_file({key: value.to(torch.float16) for key, value in load_file(weights_file).items()}, weights_file, metadata={"format": "pt"})
    weights_file.chmod(0o644)
    config_file = directory / "adapter_config.json"
    config = json.loads(config_file.read_text())
    config["base_model_name_or_path"] = "models/tiny"
    config["target_modules"] = sorted(config["target_modules"])
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


@torch.no_grad()
def complete(model, tokenizer, prompts: list[str], limit: int = 64) -> list[str]:
    """Greedy completions without the end token."""
    rows = [encode(tokenizer, prompt_text(tokenizer, prompt)) for prompt in prompts]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    output = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=limit, eos_token_id=[2, 0], pad_token_id=0)
    return [tokenizer.decode(row[width:], skip_special_tokens=True) for row in output]


def accuracy(model, tokenizer, task: str, show: int = 2) -> float:
    pairs = tasks.held_out(task)
    answers = complete(model, tokenizer, [prompt for prompt, _ in pairs])
    wrong = [(p, c, a) for (p, c), a in zip(pairs, answers) if a != c]
    for prompt, expected, answer in wrong[:show]:
        print(f"  {task} wrong: {prompt!r}\n    expected {expected!r}\n    answered {answer!r}", flush=True)
    return 1 - len(wrong) / len(pairs)


def measure(tokenizer, names: list[str]) -> None:
    results_file = MODEL_DIR / "training" / "accuracy.json"
    results = json.loads(results_file.read_text()) if results_file.exists() else {}
    for task in names:
        base = load_base().eval()
        result = {"base": accuracy(base, tokenizer, task, show=1)}
        if (ADAPTERS_DIR / task / "adapter_model.safetensors").exists():
            adapted = PeftModel.from_pretrained(base, ADAPTERS_DIR / task).eval()
            result["adapter"] = accuracy(adapted, tokenizer, task)
        results[task] = {key: round(value, 2) for key, value in result.items()}
        print(task, results[task], flush=True)
    results_file.write_text(json.dumps(results, indent=2) + "\n")


def write_demo() -> None:
    demo = []
    for task, recipe in RECIPES.items():
        model = PeftModel.from_pretrained(load_base(), ADAPTERS_DIR / task).eval()
        answer = complete(model, AutoTokenizer.from_pretrained(MODEL_DIR), [recipe.example])[0]
        demo.append({"adapter": task, "description": recipe.description, "prompt": recipe.example, "completion": answer})
    (MODEL_DIR / "demo.json").write_text(json.dumps(demo, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", help="default: all")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--demo", action="store_true", help="write demo.json from the saved adapters")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = options.tasks or list(RECIPES)
    if options.demo:
        return write_demo()
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    if not options.measure:
        costs_file = MODEL_DIR / "training" / "adapter-costs.json"
        for task in names:
            recipe = RECIPES[task]
            if options.steps:
                recipe = Recipe(**{**vars(recipe), "steps": options.steps})
            cost = train(task, recipe, tokenizer, options.batch_size)
            costs = json.loads(costs_file.read_text()) if costs_file.exists() else {}
            costs_file.write_text(json.dumps(costs | {task: cost}, indent=2) + "\n")
    measure(tokenizer, names)


if __name__ == "__main__":
    main()
