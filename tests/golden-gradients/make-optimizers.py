"""Writes tests/golden-gradients/training/: optimizers.json, and loss-curve.json with its adapter.

    python make-optimizers.py

optimizers.json: one sequence of gradients, and where torch's optimizers (Lion: its paper's algorithm in torch) take
the same parameters with it; learning rates of transformers' schedules; a clipped gradient.
loss-curve.json: 50 steps of AdamW on the checkpoint "llama" of tests/golden with PEFT, in float32: a warm-up and a
cosine, weight decay, clipping, three sequences of different lengths per step, prompts masked.
"""

import json
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.optimization import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

HERE = Path(__file__).parent
OUT = HERE / "training"
PARAMETERS, STEPS, LEARNING_RATE = 40, 20, 0.02
CURVE_STEPS, WARMUP_STEPS = 50, 5


def numbers(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.8g}") for value in values.flatten().tolist()]


class Lion(torch.optim.Optimizer):
    """arXiv 2302.06675, algorithm 2."""

    def __init__(self, parameters, lr: float, betas: tuple[float, float], weight_decay: float):
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                direction = torch.sign(first * mean + (1 - first) * parameter.grad)
                parameter -= group["lr"] * (direction + group["weight_decay"] * parameter)
                mean.mul_(second).add_(parameter.grad, alpha=1 - second)


def optimizer_goldens(generator: torch.Generator) -> dict:
    start = torch.randn(PARAMETERS, generator=generator)
    scales = 10 ** torch.linspace(-4, 1, PARAMETERS)  # gradients of very different sizes
    gradients = torch.randn(STEPS, PARAMETERS, generator=generator) * scales
    made = {
        "adamw": lambda p: torch.optim.AdamW(p, LEARNING_RATE, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
        "lion": lambda p: Lion(p, LEARNING_RATE, betas=(0.85, 0.97), weight_decay=0.1),
        "sgd": lambda p: torch.optim.SGD(p, LEARNING_RATE, momentum=0.7, weight_decay=0.1),
    }
    settings = {
        "adamw": {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6, "weightDecay": 0.1},
        "lion": {"beta1": 0.85, "beta2": 0.97, "weightDecay": 0.1},
        "sgd": {"momentum": 0.7, "weightDecay": 0.1},
    }
    ends = {}
    for name, make in made.items():
        parameter = torch.nn.Parameter(start.clone())
        optimizer = make([parameter])
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        ends[name] = {"settings": settings[name], "end": numbers(parameter)}
    clipped = torch.nn.Parameter(start.clone())
    clipped.grad = gradients[0].clone()
    norm = torch.nn.utils.clip_grad_norm_([clipped], 1.5)
    return {
        "learningRate": LEARNING_RATE,
        "start": numbers(start),
        "gradients": [numbers(gradient) for gradient in gradients],
        "optimizers": ends,
        "clipping": {"maxNorm": 1.5, "norm": float(norm), "clipped": numbers(clipped.grad)},
    }


def schedule_goldens() -> dict:
    def rates(make) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule, found = make(optimizer), []
        for _ in range(16):
            found.append(float(f"{schedule.get_last_lr()[0]:.9g}"))
            optimizer.step()
            schedule.step()
        return found

    return {
        "warmup": 3,
        "total": 14,
        "constant": rates(lambda o: get_constant_schedule_with_warmup(o, 3)),
        "linear": rates(lambda o: get_linear_schedule_with_warmup(o, 3, 14)),
        "cosine": rates(lambda o: get_cosine_schedule_with_warmup(o, 3, 14)),
    }


def batch_loss(model: torch.nn.Module, batch: list[dict]) -> torch.Tensor:
    """The mean over all tokens behind the prompts."""
    losses = []
    for example in batch:
        ids = torch.tensor([example["tokens"]])
        logprobs = model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)
        own = -logprobs.gather(1, ids[0, 1:, None])[:, 0]
        losses.append(own[example["prompt"] - 1 :])
    return torch.cat(losses).mean()


def loss_curve(generator: torch.Generator) -> dict:
    base = AutoModelForCausalLM.from_pretrained(
        HERE.parent / "golden" / "cases" / "llama", dtype=torch.float32, attn_implementation="eager"
    )
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.0, target_modules=targets)
    model = get_peft_model(base, config).eval()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in trained.items():
        if "lora_A" in name:  # B starts at zero
            parameter.data = (torch.randn(parameter.shape, generator=generator) / 8).half().float()
    first = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.default.weight"): p.data.half()
        for name, p in trained.items()
        if "lora_A" in name
    }
    save_file(first, OUT / "loss-curve.safetensors")
    examples = [
        {
            "tokens": torch.randint(4, 40, (9 + 4 * (index % 5),), generator=generator).tolist(),
            "prompt": 3 + index % 3,
        }
        for index in range(6)
    ]
    optimizer = torch.optim.AdamW(trained.values(), 0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP_STEPS, CURVE_STEPS)
    losses, norms = [], []
    for step in range(CURVE_STEPS):
        optimizer.zero_grad()
        batch = [examples[(3 * step + offset) % len(examples)] for offset in range(3)]
        loss = batch_loss(model, batch)
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)))
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}; gradient norms {min(norms):.2f} to {max(norms):.2f}")
    assert max(norms) > 1 > min(norms), "clipping must happen in some steps and not in others"
    return {
        "rank": 4, "scale": 2, "learningRate": 0.01, "weightDecay": 0.01, "maxNorm": 1.0,
        "warmup": WARMUP_STEPS, "examples": examples, "losses": losses,
    }


def main() -> None:
    OUT.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    generator = torch.Generator().manual_seed(11)
    goldens = {**optimizer_goldens(generator), "schedules": schedule_goldens()}
    (OUT / "optimizers.json").write_text(json.dumps(goldens) + "\n")
    (OUT / "loss-curve.json").write_text(json.dumps(loss_curve(generator)) + "\n")


main()
