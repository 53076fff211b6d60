"""The words for each claim: several phrasings, of which one is held out where a group has three or more.

A form with a bar, "stops|stop", is said of one and of several. {x} stands for another described thing. A phrasing is
held out by a stable hash, and only if all of its words also occur in phrasings that are not.
"""

from __future__ import annotations

import zlib
from collections import Counter

Group = tuple[str, ...]

SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
PATTERNS = {"plain": "without a pattern", "striped": "with stripes", "dotted": "with dots", "checkered": "with checks"}
NOUNS = ("one|ones", "object|objects", "thing|things")
NUMBERS: dict[int, Group] = {0: ("all", "all the", "every"), 1: ("the",), 2: ("the two", "both"), 3: ("the three",)}
RANKS = {1: "first", 2: "second", 3: "third", -1: "last"}

MOTIONS: dict[str, Group] = {
    "still": ("that stays|stay still", "standing still", "that keeps|keep its|their place"),
    "moving": ("that moves|move", "that is|are moving", "that goes|go somewhere"),
    "left": ("moving to the left", "that moves|move left", "going left", "that travels|travel to the left"),
    "right": ("moving to the right", "that moves|move right", "going right", "that travels|travel to the right"),
    "up": ("moving up", "that goes|go up", "rising", "that travels|travel upwards"),
    "down": ("moving down", "that goes|go down", "sinking", "that travels|travel downwards"),
    "circling": ("circling", "that goes|go round and round", "that turns|turn in a loop", "moving around in a loop"),
    "approaching": ("coming closer", "that gets|get bigger", "that grows|grow", "approaching"),
    "receding": ("moving away", "that gets|get smaller", "that shrinks|shrink", "going into the distance"),
    "stopping": ("that stops|stop", "coming to a halt", "that moves|move at first and stops|stop later"),
    "starting": (
        "that starts|start to move",
        "that sets|set off later",
        "that stands|stand still at first and moves|move later",
    ),
    "turning": ("that changes|change direction", "changing its|their direction", "that goes|go another way later"),
    "turning back": ("that turns|turn back", "that goes|go back the way it|they came", "turning back"),
    "zigzag": ("moving in a zigzag", "that zigzags|zigzag", "going in a zigzag"),
    "late": ("that enters|enter later", "that comes|come in later", "that is|are not there at first", "entering late"),
    "leaving": ("that leaves|leave the picture", "going out of the picture", "that leaves|leave and stays|stay away"),
    "returning": (
        "that leaves|leave and comes|come back",
        "that goes|go out and returns|return",
        "leaving and coming back",
        "that returns|return",
    ),
}
# What follows "that does not".
NEGATED: dict[str, Group] = {
    "still": ("stay still", "keep its|their place"),
    "moving": ("move", "go anywhere"),
    "left": ("move left", "travel to the left"),
    "right": ("move right", "travel to the right"),
    "up": ("go up", "travel upwards"),
    "down": ("go down", "travel downwards"),
    "circling": ("go round and round", "turn in a loop"),
    "approaching": ("get bigger", "grow"),
    "receding": ("get smaller", "shrink"),
    "stopping": ("stop", "come to a halt"),
    "starting": ("start to move", "set off later"),
    "turning": ("change direction", "change its|their direction"),
    "turning back": ("turn back", "go back the way it|they came"),
    "zigzag": ("zigzag", "move in a zigzag"),
    "late": ("enter later", "come in later"),
    "leaving": ("leave the picture", "leave and stay away"),
    "returning": ("leave and come back", "go out and return"),
}
NOT = ("that does|do not {x}", "which does|do not {x}")
NOT_LOOK = ("that is|are not {x}", "which is|are not {x}", "other than {x}")

RELATIONS: dict[str, Group] = {
    "left of": ("to the left of {x}", "left of {x}", "that is|are to the left of {x}"),
    "right of": ("to the right of {x}", "right of {x}", "that is|are to the right of {x}"),
    "above": ("above {x}", "higher than {x}", "that is|are above {x}"),
    "below": ("below {x}", "lower than {x}", "that is|are below {x}"),
    "follows": ("that follows|follow {x}", "following {x}", "that goes|go after {x}", "going the same way after {x}"),
    "overtakes": ("that overtakes|overtake {x}", "overtaking {x}", "that gets|get ahead of {x}"),
    "collides": ("that collides|collide with {x}", "colliding with {x}", "that bumps|bump into {x}"),
    "crosses": ("that crosses|cross {x}", "crossing {x}", "that moves|move across {x}"),
    "faster": ("that is|are faster than {x}", "that moves|move faster than {x}", "faster than {x}"),
    "slower": ("that is|are slower than {x}", "that moves|move slower than {x}", "slower than {x}"),
}
MUTUAL: dict[str, Group] = {
    "cross": ("that cross each other", "that cross", "crossing each other"),
    "collide": ("that collide", "that bump into each other", "colliding with each other"),
    "exchange": ("that exchange places", "that swap places", "exchanging places with each other"),
}
# (before the noun, after it)
QUALITIES: dict[str, Group] = {
    "fastest": ("fastest {x}", "{x} that moves fastest", "{x} that is the fastest"),
    "slowest": ("slowest {x}", "{x} that moves slowest", "{x} that is the slowest"),
}
PLACED: dict[str, Group] = {
    "start": ("{x} that starts {y}", "{x} that is {y} at first", "{x} that is {y} at the start"),
    "end": ("{x} that ends {y}", "{x} that is {y} at the end", "{x} that is {y} in the end"),
}
PLACES = {
    "left": "farthest to the left",
    "right": "farthest to the right",
    "top": "farthest up",
    "bottom": "farthest down",
}
ORDER: Group = ("{rank} {x} to {do}", "{x} that {does} {rank}", "{x} that is the {rank} to {do}")
EVENTS: dict[str, Group] = {
    "enters": ("enters|enter", "comes|come in", "enters|enter the picture"),
    "leaves": ("leaves|leave", "goes|go out", "leaves|leave the picture"),
    "returns": ("returns|return", "comes|come back"),
    "stops": ("stops|stop", "comes|come to a halt"),
    "starts": ("starts|start to move", "sets|set off"),
    "turns": ("turns|turn", "changes|change direction"),
}
TIMING: Group = ("that {does} {when} {x} {y}", "which {does} {when} {x} {y}")

GROUPS: tuple[Group, ...] = (
    *MOTIONS.values(),
    *(tuple(f"that does|do not {form}" for form in group) for group in NEGATED.values()),
    *RELATIONS.values(),
    *MUTUAL.values(),
    *QUALITIES.values(),
    *PLACED.values(),
    *EVENTS.values(),
    NOT_LOOK,
    ORDER,
    *((words,) for words in (*NOT, *TIMING, *PLACES.values(), *PATTERNS.values(), *RANKS.values())),
)


def stable_hash(text: str) -> int:
    """The same number on every machine and in every process."""
    return zlib.crc32(text.encode())


def _hold_out() -> frozenset[str]:
    """At most one phrasing of each group of three or more; its words are taught by the others."""
    left = Counter(word for group in GROUPS for form in group for word in form.replace("|", " ").split())
    held = set()
    for group in GROUPS:
        for form in sorted(group, key=stable_hash) if len(group) >= 3 else ():
            words = Counter(form.replace("|", " ").split())
            if all(left[word] > count for word, count in words.items()):
                left -= words
                held.add(form)
                break
    return frozenset(held)


HELD_OUT = _hold_out()
