"""Measures the saved base on its own skills: the share of 40 fresh prompts per skill whose greedy answer equals the
generator's exactly (first turns only). Writes base-skills.json. Skills with several right answers (`story`, and some
replies of `order`) score low by construction.
"""

import json
import random
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import corpus

MODEL_DIR = Path(__file__).resolve().parent.parent
SEED, COUNT = 99_991, 40
LONGEST_ANSWER = 64  # tokens


def encode(tokenizer, prompt: str) -> list[int]:
    message = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return tokenizer.encode(text, add_special_tokens=False)


@torch.no_grad()
def complete(model, tokenizer, prompts: list[str]) -> list[str]:
    """Greedy completions without the end token."""
    rows = [encode(tokenizer, prompt) for prompt in prompts]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    output = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=LONGEST_ANSWER, eos_token_id=[2, 0], pad_token_id=0)
    return [tokenizer.decode(row[width:], skip_special_tokens=True) for row in output]


def main() -> None:
    rng = random.Random(SEED)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()
    scores = {}
    for skill in corpus.SKILLS:
        turns = [skill(rng)[0] for _ in range(COUNT)]
        answers = complete(model, tokenizer, [prompt for prompt, _ in turns])
        scores[skill.__name__] = sum(answer == expected for answer, (_, expected) in zip(answers, turns)) / COUNT
    (MODEL_DIR / "training" / "base-skills.json").write_text(json.dumps(scores, indent=2) + "\n")


if __name__ == "__main__":
    main()
