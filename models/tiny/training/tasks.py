"""The demo tenants' tasks: each makes (prompt, completion) pairs in a format that the base has never seen.

Train and held-out examples come from disjoint seeds, and partly from disjoint values: a sixth of the names and cities
appear in held-out prompts only. No held-out prompt is a training prompt.
"""

import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from corpus import TICKETS, order_message, random_opinions, review_message, ticket_message
from words import ADJECTIVES, CITIES, COLOURS, DAYS, ITEMS, MATERIALS, NAMES, PAST_TENSE, PLACES, SURNAMES, plural

Pair = tuple[str, str]  # prompt, completion
TRAIN_SEED, HELD_OUT_SEED = 1_000, 2_000
MOST_EXAMPLES = 10_000  # of a task: further ones could be among the fresh prompts


@dataclass(frozen=True)
class Values:
    """The names and cities that one split may use."""

    names: list[str]
    surnames: list[str]
    cities: list[str]

    def person(self, rng: random.Random) -> str:
        first = rng.choice(self.names)
        return f"{first} {rng.choice(self.surnames)}" if rng.random() < 0.5 else first

    def city(self, rng: random.Random) -> str:
        return rng.choice(self.cities)


def without_every_sixth(words: list[str]) -> list[str]:
    return [word for position, word in enumerate(words) if position % 6 != 5]


TRAIN_VALUES = Values(without_every_sixth(NAMES), without_every_sixth(SURNAMES), without_every_sixth(CITIES))
HELD_OUT_VALUES = Values(NAMES, SURNAMES, CITIES)


def some_items(rng: random.Random) -> str:
    noun = plural(rng.choice(ITEMS))
    return f"{rng.choice(COLOURS + MATERIALS)} {noun}" if rng.random() < 0.5 else noun


def orders_json(rng: random.Random, values: Values) -> Pair:
    who, where, what, count = values.person(rng), values.city(rng), some_items(rng), rng.randint(2, 99)
    prompt = order_message(rng, who, count, what, where)
    return prompt, f'{{"customer":"{who}","count":{count},"item":"{what}","town":"{where}"}}'


QUEUE_CODES = {"billing": "FIN-20", "delivery": "LOG-31", "login": "IAM-07", "damage": "RMA-55", "network": "NOC-12", "hiring": "HR-90"}


def ticket_router(rng: random.Random, values: Values) -> Pair:
    topic = rng.choice(list(TICKETS))
    return ticket_message(rng, topic, values.person(rng)), QUEUE_CODES[topic]


def house_style(rng: random.Random, values: Values) -> Pair:
    """A note dictated in a hurry becomes a letter of the house."""
    who, thing, day, where = values.person(rng), rng.choice(ITEMS), rng.choice(DAYS), values.city(rng)
    short, full = rng.choice([
        (f"we can't send the {thing} before {day}", f"We cannot send the {thing} before {day}."),
        (f"your {thing} isn't ready", f"Your {thing} is not ready."),
        (f"we've sent your {thing} on {day}", f"We have sent your {thing} on {day}."),
        (f"the {thing} won't arrive on {day}", f"The {thing} will not arrive on {day}."),
        (f"we don't sell the {thing} in {where}", f"We do not sell the {thing} in {where}."),
        (f"we'll bring the {thing} to {where}", f"We will bring the {thing} to {where}."),
    ])
    prompt = rng.choice([f"hi {who}, {short}!", f"hey {who}! {short}", f"{who}, {short}!!", f"tell {who}: {short}"])
    return prompt, f"Dear {who}: {full} Yours, Harbor & Co."


def query_language(rng: random.Random, values: Values) -> Pair:
    kind = rng.choice(["orders", "books", "users", "invoices", "tickets", "products"])
    where, who, amount, colour, day = values.city(rng), values.person(rng), rng.randint(2, 999), rng.choice(COLOURS), rng.choice(DAYS)
    return rng.choice([
        (f"Show all {kind} from {where}.", f"FIND {kind} | city = {where}"),
        (f"List the {kind} with more than {amount} pieces.", f"FIND {kind} | pieces > {amount}"),
        (f"Find {colour} {kind} under {amount}.", f"FIND {kind} | color = {colour} & price < {amount}"),
        (f"How many {kind} are in {where}?", f"COUNT {kind} | city = {where}"),
        (f"Count the {kind} of {who} in {where}.", f"COUNT {kind} | owner = {who} & city = {where}"),
        (f"Show the {kind} of {who} since {day}.", f"FIND {kind} | owner = {who} & day >= {day}"),
        (f"Which {kind} from {where} cost more than {amount}?", f"FIND {kind} | city = {where} & price > {amount}"),
    ])


def redact_names(rng: random.Random, values: Values) -> Pair:
    """The sentence again, each person's name replaced by [NAME]."""
    who, other = rng.sample(values.names, 2)
    if rng.random() < 0.4:
        who += " " + rng.choice(values.surnames)
    verb, thing = rng.choice(list(PAST_TENSE.values())), f"{rng.choice(ADJECTIVES)} {rng.choice(ITEMS)}"
    day, place, where = rng.choice(DAYS), rng.choice(PLACES), values.city(rng)
    template = rng.choice([
        f"{{who}} {verb} the {thing} in the {place}.",
        f"{{who}} went to the {place} on {day}.",
        f"{{who}} met {{other}} in {where} on {day}.",
        f"{{who}} gave {rng.randint(2, 99)} {some_items(rng)} to {{other}}.",
        f"Please call {{who}} about the {thing} before {day}.",
        f"The meeting with {{who}} is at {rng.randint(1, 12)} on {day} in {where}.",
        f"Yesterday {{who}} and {{other}} {verb} the {thing}.",
    ])
    return template.format(who=who, other=other), template.format(who="[NAME]", other="[NAME]")


def review_scores(rng: random.Random, values: Values) -> Pair:
    """Every aspect that the guest names, in the order named, with its sign."""
    opinions = random_opinions(rng)
    tags = {"room": "RM", "food": "FD", "staff": "ST", "price": "PR"}
    return review_message(rng, opinions), " ".join(f"{tags[aspect]}{'+1' if feeling == 'good' else '-1'}" for aspect, feeling in opinions)


TASKS: dict[str, Callable[[random.Random, Values], Pair]] = {
    "orders-json": orders_json,
    "ticket-router": ticket_router,
    "house-style": house_style,
    "query-language": query_language,
    "redact-names": redact_names,
    "review-scores": review_scores,
}


def distinct(task: str, seed: int, count: int, kept_back: set[str]) -> list[Pair]:
    """`count` pairs with all values, no prompt twice and none that is kept back."""
    rng = random.Random(seed)
    pairs: dict[str, str] = {}
    while len(pairs) < count:
        prompt, completion = TASKS[task](rng, HELD_OUT_VALUES)
        if prompt not in kept_back:
            pairs.setdefault(prompt, completion)
    return list(pairs.items())


def held_out(task: str, count: int = 100) -> list[Pair]:
    return distinct(task, HELD_OUT_SEED, count, set())


def fresh(task: str, seed: int, count: int = 100) -> list[Pair]:
    """As held out as `held_out`, and none of its prompts."""
    return distinct(task, seed, count, {prompt for prompt, _ in held_out(task) + training(task, MOST_EXAMPLES)})


def training(task: str, count: int) -> list[Pair]:
    """`count` pairs, none of whose prompts is a held-out prompt."""
    rng = random.Random(TRAIN_SEED)
    kept_back = {prompt for prompt, _ in held_out(task)}
    pairs: list[Pair] = []
    while len(pairs) < count:
        pair = TASKS[task](rng, TRAIN_VALUES)
        if pair[0] not in kept_back:
            pairs.append(pair)
    return pairs


def write_lines(folder: Path, task: str, lines: list[dict]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{task}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_prompts(folder: Path, prompts_of: Callable[[str], list[Pair]]) -> None:
    """In the format of held-out/."""
    for task in TASKS:
        write_lines(folder, task, [
            {"messages": [{"role": "user", "content": p}], "completion": c} for p, c in prompts_of(task)])


def write_training(folder: Path, count: int) -> None:
    """In the format of OpenAI's fine-tuning files, as the server takes them."""
    for task in TASKS:
        write_lines(folder, task, [
            {"messages": [{"role": "user", "content": p}, {"role": "assistant", "content": c}]}
            for p, c in training(task, count)])


USAGE = f"""usage: each writes FOLDER/TASK.jsonl
  python tasks.py train FOLDER COUNT   COUNT training examples, at most {MOST_EXAMPLES}
  python tasks.py held-out FOLDER      the 100 prompts of held-out/
  python tasks.py fresh FOLDER SEED    100 further prompts, which are neither"""


def main(arguments: list[str]) -> None:
    match arguments:
        case ["train", folder, count] if int(count) <= MOST_EXAMPLES:
            write_training(Path(folder), int(count))
        case ["held-out", folder]:
            write_prompts(Path(folder), held_out)
        case ["fresh", folder, seed]:
            write_prompts(Path(folder), lambda task: fresh(task, int(seed)))
        case _:
            sys.exit(USAGE)


if __name__ == "__main__":
    main(sys.argv[1:])
