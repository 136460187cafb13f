"""Measures the saved base on its own skills: the share of 40 fresh prompts per skill whose greedy answer equals the
generator's exactly (first turns only). Writes base-skills.json. Skills with several right answers (`story`, and some
replies of `order`) score low by construction.
"""

import json
import random

from transformers import AutoTokenizer

import corpus
from train_adapters import MODEL_DIR, complete, load_base

SEED, COUNT = 99_991, 40


def main() -> None:
    rng = random.Random(SEED)
    tokenizer, model = AutoTokenizer.from_pretrained(MODEL_DIR), load_base().eval()
    scores = {}
    for skill in corpus.SKILLS:
        turns = [skill(rng)[0] for _ in range(COUNT)]
        answers = complete(model, tokenizer, [prompt for prompt, _ in turns])
        scores[skill.__name__] = sum(answer == expected for answer, (_, expected) in zip(answers, turns)) / COUNT
    (MODEL_DIR / "training" / "base-skills.json").write_text(json.dumps(scores, indent=2) + "\n")


if __name__ == "__main__":
    main()
