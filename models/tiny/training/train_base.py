"""Trains the base model on text from `corpus.py` and saves it as f16 safetensors with its configs.

Every sequence is fresh text (no epoch repeats): packed chats and plain texts, loss on all tokens with the users' words
weighing less, since random names and numbers cannot be predicted. Hidden matrices by Muon, the rest by AdamW.
A checkpoint is saved every two minutes, so that a run that is cut short leaves a usable model.
"""

import argparse
import json
import math
import multiprocessing
import random
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

import corpus

MODEL_DIR = Path(__file__).resolve().parent.parent
PROMPT_WEIGHT = 0.3
MAX_CONTEXT = 1024


def new_model(vocabulary_size: int) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary_size, hidden_size=256, intermediate_size=704, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, head_dim=32, max_position_embeddings=MAX_CONTEXT, rms_norm_eps=1e-5, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.02))


def document(rng: random.Random, tokenizer) -> tuple[list[int], list[float]]:
    """Token ids of one chat or text and the loss weight of each."""
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)
    bos, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    if rng.random() < 0.06:
        ids = [bos, *encode(corpus.plain_text(rng)), end]
        return ids, [0.0] + [1.0] * (len(ids) - 1)
    ids, weights = [bos], [0.0]
    for message in corpus.chat(rng):
        role = tokenizer.convert_tokens_to_ids(f"<|{message['role']}|>")
        body = encode(message["content"])
        ids += [role, *body, end]
        weight = 1.0 if message["role"] == "assistant" else PROMPT_WEIGHT
        weights += [0.0] + [weight] * len(body) + [weight]
    return ids, weights


def produce_batches(queue, seed: int, lengths: list[int], tokens_per_step: int, tokenizer_dir: str) -> None:
    """Runs in its own process: one packed batch per entry of `lengths`."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    rng = random.Random(seed)
    ids: list[int] = []
    weights: list[float] = []
    for length in lengths:
        rows = tokens_per_step // length
        while len(ids) < rows * length + 1:
            more_ids, more_weights = document(rng, tokenizer)
            ids += more_ids
            weights += more_weights
        inputs = [ids[row * length:(row + 1) * length] for row in range(rows)]
        targets = [ids[row * length + 1:(row + 1) * length + 1] for row in range(rows)]
        target_weights = [weights[row * length + 1:(row + 1) * length + 1] for row in range(rows)]
        queue.put((inputs, targets, target_weights))
        ids, weights = ids[rows * length:], weights[rows * length:]


def save(model: LlamaForCausalLM, directory: Path) -> None:
    """save_pretrained, then weights in f16 and the two keys that readers older than transformers 5 expect."""
    model.save_pretrained(directory)
    weights_file = directory / "model.safetensors"
    halves = {key: value.to(torch.float16) for key, value in load_file(weights_file).items()}
    save_file(halves, weights_file, metadata={"format": "pt"})
    weights_file.chmod(0o644)
    config_file = directory / "config.json"
    config = json.loads(config_file.read_text())
    config |= {"dtype": "float16", "torch_dtype": "float16", "rope_theta": 10000.0}
    config_file.write_text(json.dumps(config, indent=2) + "\n")
    generation = {"bos_token_id": 1, "eos_token_id": [2, 0], "pad_token_id": 0, "do_sample": False, "max_new_tokens": 128}
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=24, help="the schedule ends here, whichever comes first")
    parser.add_argument("--tokens-per-step", type=int, default=2048)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=MODEL_DIR)
    parser.add_argument("--resume", action="store_true", help="go on from the model in --out, with a new schedule")
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)

    tokenizer = AutoTokenizer.from_pretrained(options.out)
    model = LlamaForCausalLM.from_pretrained(options.out, dtype=torch.float32) if options.resume else new_model(len(tokenizer))
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim == 1] + [model.model.embed_tokens.weight]
    optimizers = [torch.optim.Muon(matrices, lr=options.learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
                  torch.optim.AdamW(rest, lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)]
    print(f"parameters {sum(p.numel() for p in model.parameters())}", flush=True)

    # sequences of 256, and some of the whole context throughout so that late positions are trained too
    length_rng = random.Random(options.seed)
    lengths = [MAX_CONTEXT if length_rng.random() < 0.08 else 256 for _ in range(options.steps)]
    queue = multiprocessing.Queue(maxsize=8)
    multiprocessing.Process(target=produce_batches, daemon=True,
                            args=(queue, options.seed, lengths, options.tokens_per_step, str(options.out))).start()

    start = last_save = time.time()
    log, running = [], 0.0
    for step in range(options.steps):
        progress = max(step / options.steps, (time.time() - start) / (options.minutes * 60))
        if progress >= 1:
            break
        rate = options.learning_rate * min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        inputs, targets, weights = (torch.tensor(part) for part in queue.get())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(input_ids=inputs).last_hidden_state
            counted = weights.flatten() > 0
            logits = model.lm_head(hidden.flatten(0, 1)[counted])
        losses = torch.nn.functional.cross_entropy(logits.float(), targets.flatten()[counted], reduction="none")
        counted_weights = weights.flatten()[counted]
        loss = (losses * counted_weights).sum() / counted_weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        answers = counted_weights == 1
        answer_loss = losses[answers].mean().item()
        running = answer_loss if step == 0 else 0.95 * running + 0.05 * answer_loss
        if step % 20 == 0:
            seconds = time.time() - start
            entry = {"step": step, "seconds": round(seconds), "tokens": (step + 1) * options.tokens_per_step,
                     "loss": round(loss.item(), 4), "answer_loss": round(running, 4)}
            log.append(entry)
            print(json.dumps(entry), flush=True)
        if time.time() - last_save > 120:
            save(model, options.out)
            last_save = time.time()
    save(model, options.out)
    if options.log:
        options.log.write_text("\n".join(json.dumps(entry) for entry in log) + "\n")
    print(f"done after {round(time.time() - start)} s", flush=True)


if __name__ == "__main__":
    main()
