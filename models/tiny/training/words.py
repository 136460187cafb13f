"""Word lists shared by the base corpus and the tenants' tasks. Data only: no templates, no randomness
except `invented_word`, which makes words that no list holds so that copying cannot be learned by heart."""

import random

NAMES = """Anna Ben Clara David Emma Felix Grace Henry Iris Jack Karen Leo Maria Noah Olivia Paul Quinn Rosa Sam Tina
Umar Vera Will Xenia Yusuf Zoe Alice Boris Chloe Daniel Elena Frank Gita Hugo Ines James Kofi Lena Marco Nina Oscar
Petra Rafael Sofia Tom Ursula Victor Wendy Yara Zane Amir Bella Carl Dora Erik Fatima George Helen Ivan Julia Kevin
Laura Mike Nora Omar Peter Rita Simon Tara Viktor Lucy Ravi Mei Kenji Aisha Diego Hana Jonas Klara Liam Mona Nils
Otto Priya Rob Sara Theo Una Walter Yuki Adam Carla Dev Ella Fred Gina Hans Ida Jane Kim Luis Mary Ned Olga Pia Ray
Sven Ted Uma Vince Wes""".split()

SURNAMES = """Smith Jones Brown Lopez Garcia Meyer Novak Rossi Tanaka Khan Silva Larsen Weber Martin Clark Hill Young
King Wright Green Baker Adams Carter Parker Evans Turner Cook Morgan Bell Murphy Bailey Cooper Reed Kelly Howard Ward
Cox Gray Price Wood Ross Long Foster Powell Perry Hughes Fisher Mason Hunt Black Stone Webb Berg Dahl Sato Ali Costa
Moreau Kovac Patel""".split()

CITIES = """Oslo Paris London Berlin Madrid Rome Lisbon Vienna Prague Warsaw Dublin Athens Cairo Tokyo Delhi Lima Quito
Bogota Boston Denver Austin Seattle Chicago Toronto Sydney Perth Seoul Hanoi Manila Dakar Accra Nairobi Tunis Zurich
Geneva Milan Turin Porto Bergen Malmo Riga Vilnius Tallinn Helsinki Bremen Leeds York Bristol Cardiff Lyon Nice Ghent
Utrecht Krakow Split Sofia Graz Basel Bern Kyoto""".split()

# singular -> plural, only regular enough for plain text
ITEMS = """lamp chair table desk shelf sofa carpet mirror clock cup plate bowl spoon knife fork bottle basket box bag
book pen pencil notebook map brush towel pillow blanket candle vase jacket shirt coat hat scarf glove boot shoe sock
belt ring watch phone camera radio laptop cable charger battery keyboard screen speaker printer hammer nail screw drill
saw rope bucket ladder tent bike helmet ball kite drum guitar apple pear orange lemon peach plum onion carrot potato
cake pie cookie sandwich ticket poster flower tree seed stone brick tile""".split()
IRREGULAR_PLURALS = {"shelf": "shelves", "knife": "knives", "watch": "watches", "brush": "brushes", "box": "boxes",
                     "peach": "peaches", "potato": "potatoes", "battery": "batteries", "sandwich": "sandwiches"}

COLOURS = "red blue green yellow white black brown grey pink purple orange silver golden dark pale".split()
ADJECTIVES = """big small old new warm cold fast slow happy sad kind brave clever quiet loud heavy light soft hard
round long short tall strong clean bright gentle hungry tired curious careful lazy busy proud""".split()
MATERIALS = "wooden metal glass paper plastic cotton leather silk steel copper wool stone".split()
ANIMALS = """fox dog cat bear wolf owl mouse rabbit horse cow goat sheep duck goose hen frog snake lion tiger monkey
turtle fish whale seal bee ant spider crow swan deer""".split()
PLACES = """kitchen garden park school library market station forest beach river bridge office shop cinema museum
hospital farm village harbor tower castle bakery cafe hotel airport church hall cellar attic street""".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()

PAST_TENSE = {"walk": "walked", "play": "played", "jump": "jumped", "look": "looked", "cook": "cooked",
              "sing": "sang", "run": "ran", "eat": "ate", "drink": "drank", "see": "saw", "find": "found",
              "buy": "bought", "sell": "sold", "bring": "brought", "take": "took", "give": "gave", "make": "made",
              "write": "wrote", "read": "read", "draw": "drew", "open": "opened", "close": "closed",
              "carry": "carried", "paint": "painted", "wash": "washed", "build": "built", "break": "broke",
              "lose": "lost", "keep": "kept", "hold": "held", "send": "sent", "clean": "cleaned"}

OPPOSITES = {"big": "small", "old": "new", "warm": "cold", "fast": "slow", "happy": "sad", "loud": "quiet",
             "heavy": "light", "soft": "hard", "long": "short", "clean": "dirty", "bright": "dark", "up": "down",
             "left": "right", "open": "closed", "full": "empty", "early": "late", "rich": "poor", "wet": "dry",
             "day": "night", "first": "last", "good": "bad", "strong": "weak", "hot": "cold", "near": "far"}

CAPITALS = {"France": "Paris", "Germany": "Berlin", "Spain": "Madrid", "Italy": "Rome", "Portugal": "Lisbon",
            "Austria": "Vienna", "Norway": "Oslo", "Poland": "Warsaw", "Ireland": "Dublin", "Greece": "Athens",
            "Egypt": "Cairo", "Japan": "Tokyo", "India": "Delhi", "Peru": "Lima", "Ecuador": "Quito",
            "Vietnam": "Hanoi", "Kenya": "Nairobi", "Ghana": "Accra", "Senegal": "Dakar", "Latvia": "Riga",
            "Finland": "Helsinki", "Switzerland": "Bern", "England": "London", "Bulgaria": "Sofia"}

ANIMAL_FACTS = {"fox": ("a forest", "yelps"), "dog": ("a house", "barks"), "cat": ("a house", "purrs"),
                "bear": ("a cave", "growls"), "owl": ("a tree", "hoots"), "cow": ("a farm", "moos"),
                "duck": ("a pond", "quacks"), "bee": ("a hive", "buzzes"), "lion": ("the grassland", "roars"),
                "frog": ("a pond", "croaks"), "sheep": ("a farm", "bleats"), "snake": ("the grass", "hisses"),
                "wolf": ("a forest", "howls"), "horse": ("a stable", "neighs"), "crow": ("a tree", "caws"),
                "whale": ("the sea", "sings")}

_SYLLABLES = """ba be bi bo da de di do fa fe fi ga go ha hi ja ka ke ko la le li lo lu ma me mi mo na ne ni no pa pe
po ra re ri ro ru sa se so ta te ti to va ve vo za zo an en in on ar er or al el il""".split()
_ENDINGS = ["", "n", "r", "l", "s", "t", "x", "k", "m", "th"]


def invented_word(rng: random.Random) -> str:
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3))) + rng.choice(_ENDINGS)


def plural(item: str) -> str:
    return IRREGULAR_PLURALS.get(item, item + "s")


def joined(words: list[str]) -> str:
    """`a, b and c`"""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
