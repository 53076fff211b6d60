"""What the rule parser knows of English: broader nouns, kinds of words, and how nouns and verbs are bent."""

from __future__ import annotations


def _set(text: str, between: str | None = None) -> frozenset[str]:
    return frozenset(text.split(between))


# Nouns that name anything; a detector is asked for "object".
GENERIC = _set("object thing one something item")

_KINDS = {
    "person": "man woman boy girl child kid baby toddler infant adult guy lady gentleman rider skier surfer "
    "skateboarder "
    "snowboarder cyclist biker player batter pitcher catcher umpire referee goalie dancer singer chef cook driver "
    "pilot worker officer policeman soldier teacher student athlete runner swimmer pedestrian performer customer "
    "people human somebody someone anybody bride groom mother father daughter son boss actor actress lifter gymnast "
    "wrestler fighter boxer parent teenager teen male female dude",
    "bird": "parrot duck duckling goose swan eagle hawk owl chicken hen rooster pigeon dove penguin seagull gull "
    "sparrow "
    "turkey peacock ostrich flamingo crow canary",
    "dog": "puppy pup hound poodle terrier retriever bulldog",
    "cat": "kitten kitty",
    "bear": "panda cub",
    "cow": "bull calf ox cattle buffalo",
    "horse": "pony foal mare stallion",
    "animal": "dog cat bird horse cow sheep goat pig elephant giraffe zebra lion tiger leopard cheetah monkey ape "
    "gorilla "
    "rabbit bunny deer fox wolf camel kangaroo koala squirrel mouse rat hamster hedgehog raccoon lizard snake turtle "
    "tortoise frog crocodile alligator fish shark whale dolphin seal lamb bear creature",
    "vehicle": "car truck bus van train tram motorcycle motorbike bike bicycle scooter airplane plane aeroplane "
    "helicopter "
    "boat ship tractor lorry ferry taxi jeep trailer suv cart wagon",
}  # fmt: skip
HYPERNYMS = {word: kind for kind, words in reversed(_KINDS.items()) for word in words.split()}

# Pairs whose last word alone would find something else.
COMPOUNDS = _set(
    "traffic light|fire hydrant|stop sign|teddy bear|hot dog|tennis racket|cell phone|mobile phone|parking meter|"
    "baseball bat|wine glass|potted plant|dining table|hair drier|remote control|ice cream|hot air balloon",
    "|",
)

_WORDS = {
    "colour": "red orange yellow green cyan blue purple pink brown black white grey gray golden silver beige violet "
    "tan",
    "size": "small little tiny large big huge tall short long thin fat",
    "order": "first second third fourth fifth last",
    "side": "left right leftmost rightmost top bottom middle center centre front back upper lower",
}
ATTRIBUTES = {word: kind for kind, words in _WORDS.items() for word in words.split()}
# Words of one meaning, so that two sentences can be seen to agree.
SAME = {"gray": "grey", "little": "small", "tiny": "small", "big": "large", "huge": "large", "center": "middle"}
SAME |= {"centre": "middle", "leftmost": "left", "rightmost": "right", "upper": "top", "lower": "bottom"}

_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: k for k, word in enumerate(_NUMBERS, 2)}
NUMBERS |= {str(k): k for k in range(2, 11)} | {"both": 2, "pair": 2, "couple": 2}
MANY = _set("all every each several many some few various these those multiple")
COLLECTIVE = _set("group bunch herd flock crowd team pair couple set number piece slice kind type row pack")
DETERMINERS = _set("the a an this that his her its their my your our another other")
NEGATIONS = _set("not no without never nor neither nobody nothing none cannot")

# Words after which the name of the thing is over.
STOPS = _set(
    "of in on at to from by with without under over behind beside between near next above below inside outside around "
    "along across through toward towards into onto off up down against among beneath during like as than "
    "who whom whose which that what where when while because and or but nor neither then , ; : . ( ) - "
    "is are was were be been being has have had do does did can could will would "
    "it he she they him them there here not never away closer facing"
)

# Movements, or the lack of one, by their base form: more than one frame is needed to tell.
MOTIONS = _set(
    "move walk run jump fly swim ride turn rotate spin climb fall roll drive enter leave return approach come go "
    "travel chase follow throw dance kick hop crawl rise sink slide swing shake wave cross pass pull push grow "
    "shrink circle recede bounce skate ski surf gallop trot march dive drop lift raise bend sway play fight eat jog "
    "stop start begin exit appear disappear emerge overtake drift float stay remain keep reach catch hit carry drag "
    "descend ascend lean wander stride stretch sit stand lie lay flap"
)
# Those of them that lead from one place to another.
TRAVELS = _set(
    "move walk run jump fly swim ride climb fall roll drive enter leave return approach come go travel chase follow "
    "hop crawl rise sink slide cross pass bounce skate ski surf gallop trot march dive jog emerge overtake drift float "
    "descend ascend wander"
)
_IRREGULAR_MOTIONS = {
    "ran": "run", "flew": "fly", "swam": "swim", "rode": "ride", "climbed": "climb", "fell": "fall", "drove": "drive",
    "left": "", "came": "come", "went": "go", "gone": "go", "threw": "throw", "rose": "rise", "sank": "sink",
    "slid": "slide", "swung": "swing", "shook": "shake", "grew": "grow", "shrank": "shrink", "stood": "stand",
    "sat": "sit", "ate": "eat", "lying": "lie", "still": "stay", "motionless": "stay", "stationary": "stay",
    "bigger": "grow", "smaller": "shrink", "closer": "approach", "upwards": "rise", "downwards": "sink",
}  # fmt: skip

_PLURALS = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth": "tooth",
    "mice": "mouse", "geese": "goose", "oxen": "ox", "calves": "calf", "wolves": "wolf", "knives": "knife",
    "leaves": "leaf", "wives": "wife", "shelves": "shelf", "lives": "life", "cookies": "cookie", "ties": "tie",
    "pies": "pie", "movies": "movie", "buses": "bus", "ones": "one", "guys": "guy", "shoes": "shoe", "toes": "toe",
    "canoes": "canoe", "axes": "axe", "horses": "horse", "houses": "house", "vases": "vase", "roses": "rose",
    "cases": "case", "bikes": "bike", "policemen": "policeman",
}  # fmt: skip
_SINGULAR_S = _set(
    "bus glass grass dress gas lens scissors pants jeans shorts glasses sunglasses series species skis trousers tennis "
    "canvas cactus octopus walrus hippopotamus rhinoceros boss cross class chess lass mattress actress compass"
)
_ING_NOUNS = _set(
    "building ring king painting ceiling wing string swing thing clothing duckling railing earring awning sling "
    "something anything everything nothing wedding drawing sing spring evening morning being"
)
_ED_NOUNS = _set("bed shed sled red seed weed reed speed")
_ADJECTIVES = _set(
    "plain striped dotted checkered old young new white dark light bright wet dry open closed full empty high low same "
    "different whole half round male female main only very far extreme farthest furthest nearest closest most more "
    "least other metal wooden plastic blond blonde bald naked cute nice elderly fast slow quick biggest largest "
    "smallest "
    "tallest shortest oldest youngest rear"
)
# Adjectives that name a thing where no other word does.
ALSO_NOUNS = _set("light orange round whole")
_ADJECTIVE_ENDS = ("ful", "ous", "ive", "ish", "less", "able", "ible", "ary", "est")


def singular(word: str) -> str:
    """The noun for one of what `word` names."""
    if word in _PLURALS:
        return _PLURALS[word]
    if len(word) < 4 or word in _SINGULAR_S or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zzes", "toes")):
        return word[:-2]
    return word[:-1]


def verb(word: str) -> str:
    """The movement that `word` is a form of, or ""."""
    if word in _IRREGULAR_MOTIONS:
        return _IRREGULAR_MOTIONS[word]
    for end in ("", "s", "es", "ed", "d", "ing"):
        if word.endswith(end):
            stem = word[: len(word) - len(end)]
            shortened = stem[:-1] if len(stem) > 2 and stem[-1] == stem[-2] else stem
            for base in (stem, stem + "e", shortened):
                if base in MOTIONS:
                    return base
            if end in ("es", "ed") and stem.endswith("i") and stem[:-1] + "y" in MOTIONS:
                return stem[:-1] + "y"
    return ""


def is_participle(word: str) -> bool:
    """A verb's form with -ing, or with -ed, rather than a noun that ends so."""
    if word.endswith("ing"):
        return len(word) > 4 and word not in _ING_NOUNS
    return word.endswith("ed") and len(word) > 4 and word not in _ED_NOUNS and word not in ATTRIBUTES


def is_adjective(word: str) -> bool:
    """Whether `word` describes a thing and does not name one, as far as a list and a few endings tell."""
    if singular(word) in HYPERNYMS and word not in ("male", "female"):
        return False
    return word in ATTRIBUTES or word in _ADJECTIVES or word.endswith(_ADJECTIVE_ENDS)
