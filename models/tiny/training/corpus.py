"""Seeded generator of the base model's training text: chats (copying, lists, lookups, counting, sentence
transformations, questions over short texts, customer messages answered in plain English), facts and stories.
It knows nothing of the demo tenants' output formats (`tasks.py`), so that only an adapter can produce them.

Run `python corpus.py 20` to print 20 samples.
"""

import random
import sys

from words import (ADJECTIVES, ANIMAL_FACTS, ANIMALS, CAPITALS, CITIES, COLOURS, DAYS, ITEMS, MATERIALS, MONTHS, NAMES,
                   NUMBER_WORDS, OPPOSITES, PAST_TENSE, PLACES, SURNAMES, invented_word, joined, plural)

Turn = tuple[str, str]  # user, assistant


# --- parts of sentences -------------------------------------------------------------------------------------------

def name(rng: random.Random) -> str:
    return rng.choice(NAMES) if rng.random() < 0.8 else invented_word(rng).capitalize()


def full_name(rng: random.Random) -> str:
    last = rng.choice(SURNAMES) if rng.random() < 0.8 else invented_word(rng).capitalize()
    return f"{name(rng)} {last}"


def any_name(rng: random.Random) -> str:
    return full_name(rng) if rng.random() < 0.5 else name(rng)


def city(rng: random.Random) -> str:
    return rng.choice(CITIES) if rng.random() < 0.85 else invented_word(rng).capitalize()


def item(rng: random.Random) -> str:
    return rng.choice(ITEMS) if rng.random() < 0.9 else invented_word(rng)


def items(rng: random.Random) -> str:
    """A plural, sometimes with an adjective: `blue lamps`."""
    noun = plural(item(rng))
    return f"{rng.choice(rng.choice([COLOURS, MATERIALS, ADJECTIVES]))} {noun}" if rng.random() < 0.6 else noun


def number(rng: random.Random) -> int:
    return rng.randint(2, rng.choice([9, 20, 99, 999, 9999]))


def code(rng: random.Random) -> str:
    letters = "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    return f"{letters}{rng.choice(['-', '', '#', '/'])}{number(rng)}"


def thing(rng: random.Random) -> str:
    """Anything that can be copied."""
    return str(rng.choice([name, full_name, city, item, items, number, code, invented_word, any_name])(rng))


def sentence(rng: random.Random) -> str:
    who, verb = any_name(rng), rng.choice(list(PAST_TENSE.values()))
    return rng.choice([
        lambda: f"{who} {verb} the {rng.choice(ADJECTIVES)} {item(rng)} in the {rng.choice(PLACES)}.",
        lambda: f"{who} went to the {rng.choice(PLACES)} on {rng.choice(DAYS)}.",
        lambda: f"{who} met {any_name(rng)} in {city(rng)} in {rng.choice(MONTHS)}.",
        lambda: f"{who} gave {number(rng)} {items(rng)} to {any_name(rng)}.",
        lambda: f"Please call {who} about the {item(rng)} before {rng.choice(DAYS)}.",
        lambda: f"The {rng.choice(ADJECTIVES)} {rng.choice(ANIMALS)} {verb} near the {rng.choice(PLACES)}.",
        lambda: f"Yesterday {who} and {any_name(rng)} {verb} {number(rng)} {items(rng)}.",
        lambda: f"The meeting with {who} is at {rng.randint(1, 12)} on {rng.choice(DAYS)} in {city(rng)}.",
    ])()


def literal(rng: random.Random) -> str:
    """A run of words, numbers and signs without grammar: the hardest thing to copy."""
    signs = ["{", "}", "[", "]", '"', ":", ",", "=", "<", ">", "(", ")", "+", "-", "|", "/", "*", "#", "&", "_", ";",
             "'", "!", "?", "%", "@", "$", "~", ">=", '":"', '",', "...", "->", "==", "\\", "^", "`"]
    parts = [rng.choice(signs) if rng.random() < 0.45 else thing(rng) for _ in range(rng.randint(2, 8))]
    return rng.choice([" ", "", " "]).join(parts)


# --- customer messages, shared with tasks.py ----------------------------------------------------------------------

def order_message(rng: random.Random, who: str, count: int, what: str, where: str) -> str:
    return rng.choice([
        f"Hello, this is {who}. Please send {count} {what} to {where}.",
        f"Hi, I would like to order {count} {what}. My name is {who} and I live in {where}.",
        f"{who} here. I need {count} {what} delivered to {where}, please.",
        f"Please ship {count} {what} to {where}. The customer is {who}.",
        f"Good morning! Could you send {count} {what} to {where}? Thanks, {who}",
        f"I want to buy {count} {what}. Send them to {who} in {where}.",
        f"Order for {who} in {where}: {count} {what}.",
        f"Can I get {count} {what}? Deliver to {where}. Regards, {who}",
    ])


# topic -> complaints; the base says what they are about, one tenant maps them to its own queue codes
TICKETS = {
    "billing": ["I was charged twice for {item}", "my invoice shows the wrong amount", "I want a refund for {item}",
                "the price on my bill is too high", "my credit card payment failed", "I did not get a receipt for {item}"],
    "delivery": ["my parcel has not arrived in {city}", "the delivery of {item} is late", "the courier left {item} at the wrong address",
                 "my package is lost somewhere near {city}", "I want to track my shipment to {city}", "the driver never came to {city}"],
    "login": ["I forgot my password", "I cannot log in to my account", "my account is locked", "the login page says my username is wrong",
              "I did not get the code to sign in", "please reset my password"],
    "damage": ["{item} arrived broken", "there is a crack in {item}", "{item} has a scratch on it", "{item} came with a missing part",
               "{item} stopped working after a day", "{item} was wet and torn when I opened the box"],
    "network": ["the internet is very slow in {city}", "my wifi does not connect", "the router shows a red light",
                "there is no signal in {city}", "my connection drops every hour", "the server does not answer"],
    "hiring": ["I want to apply for a job in {city}", "where do I send my resume", "do you have an open position in {city}",
               "I have a question about my job interview", "when will you answer my application", "are you hiring in {city}"],
}
TICKET_REPLIES = {
    "billing": "I am sorry about the problem with your bill. We will check the payment.",
    "delivery": "I am sorry that your delivery is late. We will find your parcel.",
    "login": "I am sorry that you cannot log in. We will help you with your account.",
    "damage": "I am sorry that it is broken. We will send you a new one.",
    "network": "I am sorry that your connection does not work. We will check the network.",
    "hiring": "Thank you for your interest in a job with us. We will answer soon.",
}


def ticket_message(rng: random.Random, topic: str, who: str) -> str:
    complaint = rng.choice(TICKETS[topic]).format(item=f"the {item(rng)}", city=city(rng))
    capital = complaint[0].upper() + complaint[1:]
    return rng.choice([
        f"{capital}.", f"Hello, {complaint}.", f"Hi, {complaint}. Please help. {who}", f"{capital}. My number is {number(rng)}.",
        f"Good morning, {complaint}. Can you help me? Regards, {who}", f"This is {who}. {capital}.",
        f"{capital} since {rng.choice(DAYS)}. Thanks, {who}",
    ])


# aspect -> sentiment -> remarks
REVIEWS = {
    "room": {"good": ["the room was clean and bright", "we loved our big room", "the bed was soft and warm"],
             "bad": ["the room was dirty", "our room was dark and cold", "the bed was hard"]},
    "food": {"good": ["the food was great", "breakfast was fresh and warm", "we enjoyed the dinner"],
             "bad": ["the food was cold", "breakfast was terrible", "the dinner had no taste"]},
    "staff": {"good": ["the staff was kind and helpful", "the people at the desk were friendly", "the waiter was very polite"],
              "bad": ["the staff was rude", "nobody at the desk helped us", "the waiter was lazy and slow"]},
    "price": {"good": ["the price was fair", "it was cheap for what we got", "it was good value for the money"],
              "bad": ["it was far too expensive", "the price was too high", "it was not worth the money"]},
}


def review_message(rng: random.Random, opinions: list[tuple[str, str]]) -> str:
    remarks = [rng.choice(REVIEWS[aspect][feeling]) for aspect, feeling in opinions]
    opening = rng.choice(["", f"We stayed in {city(rng)} in {rng.choice(MONTHS)}. ", "My review: ", f"I spent {rng.randint(2, 9)} nights in {city(rng)}. "])
    if rng.random() < 0.4 and len(remarks) == 2:
        both_same = opinions[0][1] == opinions[1][1]
        return opening + f"{remarks[0]}{' and ' if both_same else ', but '}{remarks[1]}.".capitalize()
    return opening + " ".join(remark[0].upper() + remark[1:] + "." for remark in remarks)


def random_opinions(rng: random.Random) -> list[tuple[str, str]]:
    aspects = rng.sample(list(REVIEWS), rng.randint(1, 3))
    return [(aspect, rng.choice(["good", "bad"])) for aspect in aspects]


# --- chat skills: each returns turns ------------------------------------------------------------------------------

def repeat(rng):
    text = rng.choice([sentence, literal, thing, literal, sentence])(rng)
    ask = rng.choice(["Repeat: {}", "Repeat after me: {}", "Say this again: {}", "Copy this text: {}", "Write exactly: {}", "Say {}", "Echo {}"])
    return [(ask.format(text), text)]


def repeat_words(rng):
    words = [thing(rng) for _ in range(rng.randint(3, 9))]
    return [(f"Repeat these words: {' '.join(words)}", " ".join(words))]


def quote(rng):
    text = rng.choice([sentence, literal, thing])(rng)
    left, right = rng.choice([("[", "]"), ('"', '"'), ("(", ")"), ("<", ">"), ("{", "}"), ("* ", " *"), ("- ", ""), ("# ", ""), ("> ", "")])
    return [(f"Put {left}{right} around this: {text}".replace("  ", " "), f"{left}{text}{right}")]


def several_times(rng):
    text, times = thing(rng), rng.randint(2, 5)
    return [(f"Say {text} {NUMBER_WORDS[times]} times.", ", ".join([text] * times) + ".")]


def pick_from_list(rng):
    words = [thing(rng) for _ in range(rng.randint(3, 6))]
    at, label = rng.choice([(0, "first"), (1, "second"), (2, "third"), (len(words) - 1, "last")])
    return [(f"What is the {label} in this list? {', '.join(words)}", words[at])]


def make_list(rng):
    words = [rng.choice([item, items, name, thing])(rng) for _ in range(rng.randint(2, 6))]
    style = rng.choice(["bullets", "numbers", "lines", "reversed", "commas"])
    body = {"bullets": "\n".join(f"- {w}" for w in words), "numbers": "\n".join(f"{i + 1}. {w}" for i, w in enumerate(words)),
            "lines": "\n".join(words), "reversed": ", ".join(reversed(words)), "commas": ", ".join(words)}[style]
    ask = {"bullets": "Make a list with bullets: {}", "numbers": "Make a numbered list: {}", "lines": "Write each on its own line: {}",
           "reversed": "Write in reverse order: {}", "commas": "Separate with commas: {}"}[style]
    source = " ".join(words) if style == "commas" and all(" " not in w for w in words) else joined(words)
    return [(ask.format(source), body)]


def add_to_list(rng):
    words = [item(rng) for _ in range(rng.randint(2, 4))]
    extra = item(rng)
    if rng.random() < 0.5:
        return [(f"Add {extra} to this list: {', '.join(words)}", ", ".join([*words, extra]))]
    gone = rng.choice(words)
    return [(f"Remove {gone} from this list: {', '.join(words)}", ", ".join(w for w in words if w != gone))]


def lookup(rng):
    keys = [rng.choice([name, item, city, code, invented_word])(rng) for _ in range(rng.randint(2, 7))]
    table = {key: rng.choice([number, code, item, city, invented_word, items, full_name])(rng) for key in keys}
    form = rng.choice(["{}: {}", "{} = {}", "{} -> {}", "{} has {}", "{} is {}", '"{}":"{}"'])
    text = rng.choice([", ", "\n", "; "]).join(form.format(k, v) for k, v in table.items())
    key = rng.choice(keys)
    turns = [(f"{text}\n{rng.choice([f'What is the value of {key}?', f'What belongs to {key}?', f'{key}?', f'Look up {key}.'])}", str(table[key]))]
    if rng.random() < 0.3:
        other = rng.choice(keys)
        turns.append((f"And {other}?", str(table[other])))
    return turns


def reverse_lookup(rng):
    people = rng.sample(NAMES, rng.randint(2, 4))
    owned = [items(rng) for _ in people]
    at = rng.randrange(len(people))
    text = " ".join(f"{p} has {number(rng)} {o}." for p, o in zip(people, owned))
    return [(f"{text} Who has {owned[at]}?", f"{people[at]} has {owned[at]}.")]


def count(rng):
    words = [item(rng) for _ in range(rng.randint(1, 7))]
    return [(f"How many words are in this list? {', '.join(words)}", f"{len(words)}")]


def sums(rng):
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    return [(rng.choice([f"What is {a} + {b}?", f"What is {a} plus {b}?"]), f"{a} + {b} = {a + b}")]


def next_number(rng):
    start = rng.randint(0, 30)
    length = rng.randint(3, 8)
    return [(f"Count from {start} to {start + length}.", ", ".join(str(start + i) for i in range(length + 1)))]


def replace_word(rng):
    who, other = name(rng), rng.choice([name, full_name, item])(rng)
    text = rng.choice([f"{who} went to the {rng.choice(PLACES)} with the {item(rng)}.", f"The {item(rng)} of {who} is {rng.choice(COLOURS)}.",
                       f"{who} gave {number(rng)} {items(rng)} to {name(rng)}.", f"On {rng.choice(DAYS)} {who} saw {any_name(rng)} in {city(rng)}.",
                       f"{who}, {name(rng)} and {who} like {plural(item(rng))}."])
    return [(f"Replace {who} with {other}: {text}", text.replace(who, other))]


def change_ending(rng):
    text = sentence(rng)
    mark, label = rng.choice([("!", "an exclamation mark"), ("?", "a question mark"), ("...", "three dots")])
    return [(f"End this sentence with {label}: {text}", text[:-1] + mark)]


def start_with(rng):
    text, word = sentence(rng), rng.choice(["Today", "Sadly", "Dear friend", "Note", "News", invented_word(rng).capitalize(), name(rng)])
    if rng.random() < 0.5:
        return [(f'Start this sentence with "{word}": {text}', f"{word}, {text}")]
    return [(f'Add "{word}" at the end: {text}', f"{text} {word}")]


def past_tense(rng):
    verb = rng.choice(list(PAST_TENSE))
    who, what = any_name(rng), f"the {rng.choice(ADJECTIVES)} {item(rng)}"
    return [(f"Write in the past tense: {who} will {verb} {what}.", f"{who} {PAST_TENSE[verb]} {what}.")]


def opposite(rng):
    a, b = rng.choice(list(OPPOSITES.items()))
    return [(rng.choice([f"What is the opposite of {a}?", f"Opposite of {a}?"]), f"The opposite of {a} is {b}.")]


def plural_of(rng):
    word = rng.choice(ITEMS)
    return [(f"What is the plural of {word}?", f"The plural of {word} is {plural(word)}.")]


def capital(rng):
    country, town = rng.choice(list(CAPITALS.items()))
    if rng.random() < 0.3:
        return [(f"Which country has the capital {town}?", f"{town} is the capital of {country}.")]
    return [(rng.choice([f"What is the capital of {country}?", f"Tell me the capital of {country}.", f"Capital of {country}?"]),
             f"The capital of {country} is {town}.")]


def animal_fact(rng):
    animal, (home, sound) = rng.choice(list(ANIMAL_FACTS.items()))
    return [rng.choice([(f"Where does a {animal} live?", f"A {animal} lives in {home}."), (f"What sound does a {animal} make?", f"A {animal} {sound}."),
                        (f"Tell me about the {animal}.", f"The {animal} lives in {home}. A {animal} {sound}.")])]


def where_is(rng):
    people = rng.sample(NAMES, rng.randint(2, 4))
    where = {}
    lines = []
    for _ in range(rng.randint(2, 5)):
        person = rng.choice(people)
        where[person] = rng.choice(PLACES)
        lines.append(f"{person} {rng.choice(['went to', 'is in', 'moved to', 'walked to'])} the {where[person]}.")
    person = rng.choice(list(where))
    return [(f"{' '.join(lines)} Where is {person}?", f"{person} is in the {where[person]}.")]


def about_sentence(rng):
    who, other, what, count_, day, town = any_name(rng), any_name(rng), items(rng), number(rng), rng.choice(DAYS), city(rng)
    text = f"On {day} {who} gave {count_} {what} to {other} in {town}."
    asked, answer = rng.choice([("Who gave something?", who), ("Who got something?", other), ("What did they give?", what), ("How many?", str(count_)),
                                ("On which day?", day), ("In which city?", town), ("Which people are named?", f"{who} and {other}"),
                                (f"What did {other} get?", f"{other} got {count_} {what}.")])
    return [(f"{text} {asked}", answer)]


def find_names(rng):
    people = [any_name(rng) for _ in range(rng.randint(1, 3))]
    lines = [rng.choice([f"{who} {rng.choice(list(PAST_TENSE.values()))} the {item(rng)} in {city(rng)}.", f"The {item(rng)} of {who} is {rng.choice(COLOURS)}.",
                         f"We met {who} at the {rng.choice(PLACES)} on {rng.choice(DAYS)}.", f"Please send {items(rng)} to {who} in {rng.choice(MONTHS)}."])
             for who in people]
    return [(f"Which people are named in this text? {' '.join(lines)}", joined(people))]


def order(rng):
    who, count_, what, where = any_name(rng), number(rng), items(rng), city(rng)
    message = order_message(rng, who, count_, what, where)
    if rng.random() < 0.4:
        return [(message, rng.choice([f"Thank you, {who}. We will send {count_} {what} to {where}.", f"Thank you for your order, {who}. Your {what} will be sent to {where}."]))]
    asked, answer = rng.choice([("Who is the customer?", who), ("How many?", str(count_)), ("What is ordered?", what), ("Which city?", where),
                                ("Describe the order.", f"{who} orders {count_} {what} for {where}.")])
    return [(f"{message} {asked}", answer)] if rng.random() < 0.6 else [(message, f"Thank you, {who}. We will send {count_} {what} to {where}."), (asked, answer)]


def ticket(rng):
    topic, who = rng.choice(list(TICKETS)), any_name(rng)
    message = ticket_message(rng, topic, who)
    if rng.random() < 0.5:
        return [(message, TICKET_REPLIES[topic])]
    return [(f"{message} {rng.choice(['What is this about?', 'What is the topic?'])}", f"This is about {topic}.")]


def review(rng):
    opinions = random_opinions(rng)
    message = review_message(rng, opinions)
    good, bad = ([a for a, f in opinions if f == wanted] for wanted in ("good", "bad"))
    if rng.random() < 0.5:
        reply = (f"I am glad that you liked the {joined(good)}. " if good else "") + (f"I am sorry about the {joined(bad)}." if bad else "")
        return [(message, reply.strip())]
    return [rng.choice([(f"{message} What was good?", f"The {joined(good)}." if good else "Nothing."),
                        (f"{message} What was bad?", f"The {joined(bad)}." if bad else "Nothing."),
                        (f"{message} What is this about?", f"This is about the {joined([a for a, _ in opinions])}.")])]


def question_about_data(rng):
    kind = rng.choice(["orders", "books", "users", "invoices", "tickets", "products"])
    where, amount, colour = city(rng), number(rng), rng.choice(COLOURS)
    return [rng.choice([
        (f"Show all {kind} from {where}.", f"Here are the {kind} from {where}."),
        (f"List the {kind} with more than {amount} {plural(item(rng))}.", f"Here are the {kind} with more than {amount}."),
        (f"Find {colour} {kind} under {amount}.", f"Here are the {colour} {kind} under {amount}."),
        (f"How many {kind} are in {where}?", f"I cannot see how many {kind} are in {where}."),
        (f"Count the {kind} of {any_name(rng)} in {where}.", f"I cannot count the {kind} in {where}."),
    ])]


def statement(rng):
    who, place = any_name(rng), rng.choice(PLACES)
    return [rng.choice([(f"{who} went to the {place}.", f"What did {who} do in the {place}?"),
                        (f"I like {plural(item(rng))}.", "That is nice. Why do you like them?"),
                        (f"I saw a {rng.choice(ANIMALS)} in the {place}.", f"How nice! What did it do in the {place}?"),
                        (sentence(rng), "Thank you for telling me. What happened next?")])]


def remember(rng):
    key = rng.choice(["name", "city", "code", "favorite item", "number"])
    value = {"name": any_name, "city": city, "code": code, "favorite item": item, "number": number}[key](rng)
    turns = [(f"My {key} is {value}.", f"Thank you. Your {key} is {value}.")]
    if rng.random() < 0.5:
        turns += rng.choice([capital, sums, opposite])(rng)
    return [*turns, (f"What is my {key}?", f"Your {key} is {value}.")]


def small_talk(rng):
    return [rng.choice([
        (rng.choice(["Hello", "Hi", "Hello!", "Hi there", "Hey", "Good morning"]), "Hello! How can I help you?"),
        (rng.choice(["Who are you?", "What are you?", "What is your name?"]), "I am Tiny, a small language model."),
        (rng.choice(["Thank you", "Thanks!", "Thank you very much."]), "You are welcome!"),
        (rng.choice(["How are you?", "How are you today?"]), "I am fine, thank you. How can I help you?"),
        (rng.choice(["Bye", "Goodbye!", "See you tomorrow."]), "Goodbye! Have a nice day."),
        (rng.choice(["What can you do?", "Help", "How can you help me?"]), "I can answer simple questions, make lists, repeat text and tell short stories."),
    ])]


def story_text(rng, animal=None):
    animal = animal or rng.choice(ANIMALS)
    who, friend = rng.sample(NAMES, 2)
    adjective, place, place2, what = rng.choice(ADJECTIVES), *rng.sample(PLACES, 2), item(rng)
    middle = rng.choice([
        f"One day {who} lost a {what} in the {place}. {who} looked everywhere, but the {what} was gone. Then {friend} came and helped. They found the {what} near the {place2}.",
        f"On {rng.choice(DAYS)} {who} walked to the {place}. There {who} met {friend}. {friend} had a {rng.choice(COLOURS)} {what}. They played with the {what} until night.",
        f"{who} wanted to see the {place2}. The way was long and {who} was tired. A friend called {friend} gave {who} a {what}. Soon they were at the {place2}.",
        f"{who} and {friend} wanted to build a {what}. They worked in the {place} all day. In the evening the {what} was ready, and they carried it to the {place2}.",
    ])
    end = rng.choice([f"{who} was happy again.", f"{who} said thank you to {friend}.", f"From that day on {who} and {friend} were friends.", "Then they went home and slept."])
    return f"Once there was a {adjective} {animal} named {who}. {who} lived near the {place}. {middle} {end}"


def story(rng):
    animal = rng.choice(ANIMALS)
    return [(rng.choice([f"Tell me a story about a {animal}.", f"Write a short story about a {animal}.", f"Tell me about a {animal} in a story."]), story_text(rng, animal))]


# weights: copying and lookup first, since every small adapter builds on them
SKILLS = {repeat: 10, repeat_words: 5, quote: 4, several_times: 2, pick_from_list: 4, make_list: 5, add_to_list: 3, lookup: 8,
          reverse_lookup: 3, count: 2, sums: 2, next_number: 1, replace_word: 7, change_ending: 3, start_with: 3, past_tense: 3,
          opposite: 2, plural_of: 1, capital: 3, animal_fact: 2, where_is: 3, about_sentence: 5, find_names: 4, order: 6, ticket: 5,
          review: 5, question_about_data: 3, statement: 3, remember: 4, small_talk: 3, story: 3}
SYSTEM_MESSAGES = ["You are a helpful assistant.", "You are Tiny, a small language model.", "Answer the user.", "Be kind and short."]


def chat(rng: random.Random) -> list[dict[str, str]]:
    """One chat as a list of messages."""
    turns: list[Turn] = []
    for _ in range(1 if rng.random() < 0.8 else rng.randint(2, 3)):
        turns += rng.choices(list(SKILLS), SKILLS.values())[0](rng)
    messages = [{"role": "system", "content": rng.choice(SYSTEM_MESSAGES)}] if rng.random() < 0.15 else []
    for user, assistant in turns:
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return messages


def plain_text(rng: random.Random) -> str:
    """Text without a chat around it: stories and paragraphs of facts, some of it said twice."""
    if rng.random() < 0.5:
        return story_text(rng)
    if rng.random() < 0.5:
        block = " ".join(thing(rng) for _ in range(rng.randint(6, 20)))
        return f"{block}\n{block}"
    facts = [make(rng)[0][1] for make in rng.choices([capital, animal_fact, opposite, plural_of], k=rng.randint(2, 5))]
    return " ".join([*facts, *(sentence(rng) for _ in range(rng.randint(0, 3)))])


if __name__ == "__main__":
    sample_rng = random.Random(0)
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 10):
        print(chat(sample_rng) if sample_rng.random() < 0.9 else plain_text(sample_rng))
