"""Sentences with one word swapped, which are true of something else: does a matcher tell them from the sentence?

colour  another colour, which the sentence does not name
side    left and right, top and bottom, upper and lower change places
verb    the movement's contrary: who walks stands, what rises sinks; only for matchers that can see it

A sentence with a "not" has none: without the swapped word it may be true as well.
"""

from __future__ import annotations

import re
from dataclasses import replace

from models.teacher import words
from models.teacher.interfaces import Parsed

MOST = 4  # of one sentence, the first ones; each is asked as a sentence of its own

_COLOURS = {
    "red": "blue", "orange": "green", "yellow": "purple", "green": "red", "cyan": "brown", "blue": "yellow",
    "purple": "yellow", "pink": "green", "brown": "blue", "black": "white", "white": "black", "grey": "red",
    "gray": "red", "golden": "blue", "silver": "red", "beige": "blue", "violet": "yellow", "tan": "blue",
}  # fmt: skip
_OTHERS = ("red", "blue", "green", "yellow")  # where the colour above is in the sentence already
_SIDES = {"left": "right", "leftmost": "rightmost", "top": "bottom", "upper": "lower"}
_SIDES |= {other: side for side, other in _SIDES.items()}
_WHO = ("who", "that", "which", "has", "have", "had")  # "left" after one of these is a verb
_VERBS = {
    "move": "stay", "walk": "stand", "run": "stand", "jump": "sit", "fly": "sit", "turn": "stay", "rotate": "stay",
    "spin": "stay", "climb": "descend", "ascend": "descend", "descend": "climb", "rise": "sink", "sink": "rise",
    "fall": "rise", "enter": "leave", "leave": "enter", "approach": "leave", "come": "go", "go": "come",
    "travel": "stay", "crawl": "stand", "grow": "shrink", "shrink": "grow", "push": "pull", "pull": "push",
    "stop": "start", "start": "stop", "begin": "stop", "appear": "disappear", "disappear": "appear", "stay": "move",
    "remain": "move", "sit": "run", "stand": "walk", "lie": "run", "bounce": "stay", "slide": "stay", "roll": "stay",
    "cross": "leave", "dance": "stand", "emerge": "disappear", "shake": "stay", "swing": "stay", "trot": "stand",
    "gallop": "stand", "jog": "stand", "march": "stand", "wander": "stand",
}  # fmt: skip
_BENT = {  # with -ing and in the past, where it is not simply added
    "sit": ("sitting", "sat"), "stand": ("standing", "stood"), "sink": ("sinking", "sank"), "rise": ("rising", "rose"),
    "leave": ("leaving", "left"), "come": ("coming", "came"), "go": ("going", "went"), "grow": ("growing", "grew"),
    "shrink": ("shrinking", "shrank"), "stop": ("stopping", "stopped"), "run": ("running", "ran"),
    "move": ("moving", "moved"),
}  # fmt: skip


def edits(parsed: Parsed, *, motion: bool) -> tuple[Parsed, ...]:
    """The sentence with one word swapped, once for each that can be, at most `MOST`; () where there is none.

    motion  whether verbs count. Only the text differs: what is meant is called the same, and there are as many.
    """
    if parsed.negated:
        return ()
    parts = re.findall(r"\w+|\W+", parsed.text)
    said = [part.lower() for part in parts if part[0].isalnum()]
    found, before = [], ""
    for place, part in enumerate(parts):
        word = part.lower()
        if not word[0].isalnum():
            continue
        other = "" if word == parsed.noun else _swapped(word, before, said, motion)
        if other:
            found.append(replace(parsed, text="".join([*parts[:place], other, *parts[place + 1 :]])))
        before = word
    return tuple(found[:MOST])


def _swapped(word: str, before: str, said: list[str], motion: bool) -> str:
    """What to say instead of a word; "" for one that has no contrary."""
    if word in _COLOURS:
        return next((c for c in (_COLOURS[word], *_OTHERS) if c not in said and c != word), "")
    if word in _SIDES:
        return "" if before in _WHO else _SIDES[word]
    base = words.verb(word)
    return _bent_like(word, base, _VERBS[base]) if motion and base in _VERBS else ""


def _bent_like(word: str, base: str, other: str) -> str:
    """`other` in the form that `word` is of its `base`."""
    ing, past = _BENT.get(other, (other + "ing", other + ("d" if other.endswith("e") else "ed")))
    if word == base:
        return other
    if word.endswith("ing"):
        return ing
    if word.endswith("s"):
        return other + ("es" if other.endswith(("o", "s", "x", "ch", "sh")) else "s")
    return past
