"""Sentences as programs: what is claimed, whether it is true of a thing as seen, and how it is said.

A claim judges a thing True, False, or None where people could argue. A program is one sentence's claims; its answer is
the things of which all of them hold. Where any of that is arguable, the sentence is not said of this world.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from .layout import COLOURS, MOTIONS, SIZES, TEXTURES, Draw
from .shapes import SHAPES
from .world import Thing, Track, World

ATTRIBUTES = ("size", "colour", "texture", "shape")
_VALUES = {"size": tuple(SIZES), "colour": COLOURS, "texture": TEXTURES, "shape": SHAPES}
_SUBSETS = [chosen for count in range(1, 5) for chosen in combinations(ATTRIBUTES, count)]

# A thing counts as in the picture when this share of it is seen.
_SEEN = 0.3


@dataclass(frozen=True)
class Looks:
    """Claims that an attribute has a value."""

    attribute: str
    value: str

    def true_of(self, thing: Thing, world: World) -> bool | None:
        if self.attribute != "size":
            return bool(getattr(thing, self.attribute) == self.value)
        radius_T = world.tracks[thing.id].radius_T
        if radius_T.max() < 0.125:
            return self.value == "small"
        if radius_T.min() > 0.14:
            return self.value == "large"
        return None


@dataclass(frozen=True)
class Moves:
    """Claims a motion over the whole video, as seen on the screen."""

    motion: str

    def true_of(self, thing: Thing, world: World) -> bool | None:
        track = world.tracks[thing.id]
        seen_T = track.seen_T >= _SEEN
        if self.motion == "late":
            return _is_late(track)
        if self.motion == "returning":
            return _is_returning(track)
        if seen_T.sum() < 6:
            return None
        # What a thing does out of the picture nobody can tell: its way as a whole is arguable.
        away = bool(track.gone_T[_span(seen_T)].any())
        if self.motion in _DIRECTIONS:
            axis, sign = _DIRECTIONS[self.motion]
            goes = _goes(track.centre_T2[seen_T], axis, sign)
            return None if away and goes else goes
        if self.motion == "circling":
            return None if away else _is_circling(track.centre_T2[seen_T])
        if self.motion == "still":
            return _is_still(track, seen_T)
        radius_T = track.radius_T[seen_T]
        growth = float(radius_T[-1] / radius_T[0])
        return _between(growth if self.motion == "approaching" else 1 / growth, 1.2, 1.6)


@dataclass(frozen=True)
class Program:
    """The claims of one sentence, all of which its referents must meet."""

    looks: tuple[Looks, ...]
    moves: Moves | None = None

    @property
    def claims(self) -> tuple[Looks | Moves, ...]:
        return (*self.looks, self.moves) if self.moves else self.looks


class Judge:
    """Answers programs about one world, judging each claim once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._verdicts: dict[Looks | Moves, list[bool | None]] = {}

    def verdicts(self, claim: Looks | Moves) -> list[bool | None]:
        """Whether the claim is true of each of the world's things, in their order."""
        if claim not in self._verdicts:
            self._verdicts[claim] = [claim.true_of(thing, self._world) for thing in self._world.things]
        return self._verdicts[claim]

    def referents(self, program: Program) -> tuple[int, ...] | None:
        """Ids of the things the program is true of, ascending; None where it is arguable of any thing."""
        rows = [self.verdicts(claim) for claim in program.claims]
        found = []
        for order, thing in enumerate(self._world.things):
            column = [row[order] for row in rows]
            if False in column:
                continue
            if None in column:
                return None
            found.append(thing.id)
        return tuple(sorted(found))


def _span(seen_T: np.ndarray) -> slice:
    """From the first to the last moment seen."""
    shown = np.flatnonzero(seen_T)
    return slice(shown[0], shown[-1] + 1)


_DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}


def _between(value: float, false_below: float, true_above: float) -> bool | None:
    return True if value >= true_above else False if value <= false_below else None


def _goes(centre_T2: np.ndarray, axis: int, sign: int) -> bool | None:
    """True for a clear, steady way in that direction; false where it never goes far in it, or circles."""
    along = sign * centre_T2[:, axis]
    across = centre_T2[:, 1 - axis]
    farthest = float(np.max(along - np.minimum.accumulate(along)))
    back = float(np.max(np.maximum.accumulate(along) - along))
    net, aside = float(along[-1] - along[0]), float(abs(across[-1] - across[0]))
    if farthest < 0.1 or _is_circling(centre_T2):
        return False
    return True if net > 0.3 and back < 0.06 and aside < 0.5 * net else None


def _is_circling(centre_T2: np.ndarray) -> bool | None:
    """By how many full turns the direction of motion changes; steps too short to have a direction do not count."""
    steps = np.diff(centre_T2, axis=0)
    steps = steps[np.hypot(steps[:, 0], steps[:, 1]) > 0.012]
    if len(steps) < 6:
        return False
    before, after = steps[:-1], steps[1:]
    turn = np.arctan2(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0], (before * after).sum(axis=1))
    gradual = np.abs(turn) < 0.7 * np.pi  # going back the way it came is not a turn to either side
    return _between(abs(float(turn[gradual].sum())) / (2 * np.pi), 0.35, 0.75)


def _is_still(track: Track, seen_T: np.ndarray) -> bool | None:
    centre_T2, radius_T = track.centre_T2[seen_T], track.radius_T[seen_T]
    moved = float(np.ptp(centre_T2, axis=0).max())
    growth = float(radius_T.max() / radius_T.min())
    if moved > 0.16 or growth > 1.3 or track.gone_T.any():
        return False
    return True if moved < 0.1 and growth < 1.1 else None


def _is_late(track: Track) -> bool | None:
    if track.seen_T[0] >= _SEEN:
        return False
    late = track.gone_T[:3].all() and track.seen_T[-6:].min() >= _SEEN and not _leaves_again(track)
    return True if late else None


def _leaves_again(track: Track) -> bool:
    shown = np.flatnonzero(~track.gone_T)
    return bool(track.gone_T[shown[0] :].any())


def _is_returning(track: Track) -> bool | None:
    seen_T = track.seen_T >= _SEEN
    if not seen_T.any():
        return None
    span = _span(seen_T)
    if track.gone_T[span].sum() >= 3 and seen_T[0] and seen_T[-1]:
        return True
    return False if track.seen_T[span].min() > 0.1 and not track.gone_T[span.stop :].any() else None


# How each motion is said after a noun.
_CLAUSES = {
    "still": ("that stays still", "that does not move", "standing still", "that keeps its place"),
    "left": ("moving to the left", "that moves left", "going left", "that travels to the left"),
    "right": ("moving to the right", "that moves right", "going right", "that travels to the right"),
    "up": ("moving up", "that goes up", "rising", "that travels upwards"),
    "down": ("moving down", "that goes down", "sinking", "that travels downwards"),
    "circling": ("circling", "that goes round and round", "that turns in a loop", "moving around in a loop"),
    "approaching": ("coming closer", "that gets bigger", "that grows", "approaching"),
    "receding": ("moving away", "that gets smaller", "that shrinks", "going into the distance"),
    "late": ("that enters later", "that comes in later", "that is not there at first", "entering late"),
    "returning": ("that leaves and comes back", "that goes out and returns", "leaving and coming back", "that returns"),
}
_SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
_WITH = {"plain": "without a pattern", "striped": "with stripes", "dotted": "with dots", "checkered": "with checks"}
_NOUNS = ("one", "object", "thing")


def phrasings(program: Program) -> tuple[str, ...]:
    """Every way this program can be said."""
    value = {claim.attribute: claim.value for claim in program.looks}
    nouns = (value["shape"],) if "shape" in value else _NOUNS
    sizes = _SIZE_WORDS[value["size"]] if "size" in value else ("",)
    clauses = _CLAUSES[program.moves.motion] if program.moves else ("",)
    texture = value.get("texture", "")
    colour = value.get("colour", "")
    said: list[tuple[str, ...]] = []
    for size, noun, clause in product(sizes, nouns, clauses):
        said.append(("the", size, colour, texture, noun, clause))
        # A clause after these would seem to speak of the pattern.
        if texture and not clause:
            said.append(("the", size, colour, noun, _WITH[texture]))
        described = [word for word in (size, colour, texture) if word]
        if described and not clause and size != "little":
            said.append(("the", noun, "that is", " and ".join(described)))
    return tuple(" ".join(filter(None, words)) for words in said)


def all_sentences() -> Iterator[str]:
    """Every appearance sentence, and every motion said of what up to two attributes name: all words there are."""
    for chosen in _SUBSETS:
        for values in product(*(_VALUES[attribute] for attribute in chosen)):
            looks = tuple(map(Looks, chosen, values))
            yield from phrasings(Program(looks))
            if len(chosen) <= 2:
                for motion in MOTIONS:
                    yield from phrasings(Program(looks, Moves(motion)))
    for motion in MOTIONS:
        yield from phrasings(Program((), Moves(motion)))


@dataclass(frozen=True)
class Sentence:
    """A sentence with its program, its family (appearance, motion, no-target) and its verified answer."""

    text: str
    family: str
    program: Program
    object_ids: tuple[int, ...]


# Verified programs of one family, by their referents.
Offers = dict[tuple[int, ...], list[Program]]


def draw_sentences(draw: Draw, world: World, count: int, *, motion: float, no_target: float) -> tuple[Sentence, ...]:
    """Up to `count` different sentences, each true of exactly one thing, or of none.

    motion, no_target: the shares of these families; where a world offers none of a family, another one is used.
    """
    judge = Judge(world)
    named, alike = _name(judge, world)
    offers = {"appearance": named, "motion": _told_apart(judge, alike)}
    chosen: list[Sentence] = []
    texts: set[str] = set()
    used: dict[tuple[int, ...], int] = {}
    for _ in range(count):
        mark = draw.between(0, 1)
        wanted = "no-target" if mark < no_target else "motion" if mark < no_target + motion else "appearance"
        for family in (wanted, *(name for name in offers if name != wanted)):
            sentence = _missing(draw, judge, world, alike) if family == "no-target" else None
            if family in offers:
                sentence = _draw_one(draw, family, offers[family], used)
            if sentence and sentence.text not in texts:
                texts.add(sentence.text)
                used[sentence.object_ids] = used.get(sentence.object_ids, 0) + 1
                chosen.append(sentence)
                break
    return tuple(chosen)


def _draw_one(draw: Draw, family: str, offers: Offers, used: dict[tuple[int, ...], int]) -> Sentence | None:
    """A sentence about the thing that has been spoken of least."""
    if not offers:
        return None
    fewest = min(used.get(ids, 0) for ids in offers)
    ids = draw.pick([ids for ids in offers if used.get(ids, 0) == fewest])
    program = draw.pick(offers[ids])
    return Sentence(draw.pick(phrasings(program)), family, program, ids)


def _name(judge: Judge, world: World) -> tuple[Offers, list[Program]]:
    """What names one thing by its looks, with at most one word more than needed; and what several things share."""
    described: dict[Program, None] = {Program(()): None}
    for thing in world.things:
        for chosen in _SUBSETS:
            described[Program(tuple(Looks(attribute, _value(thing, attribute)) for attribute in chosen))] = None
    named: Offers = {}
    alike = []
    for program in described:
        ids = judge.referents(program)
        if ids is not None and len(ids) > 1:
            alike.append(program)
        elif ids is not None and (ids not in named or len(program.looks) <= len(named[ids][0].looks) + 1):
            named.setdefault(ids, []).append(program)
    return named, alike


def _told_apart(judge: Judge, alike: list[Program]) -> Offers:
    """What names one thing by its motion among things that share the words for their looks."""
    offers: Offers = {}
    for program in alike:
        for motion in MOTIONS:
            moving = Program(program.looks, Moves(motion))
            ids = judge.referents(moving)
            if ids is not None and len(ids) == 1:
                offers.setdefault(ids, []).append(moving)
    return offers


def _missing(draw: Draw, judge: Judge, world: World, alike: list[Program]) -> Sentence | None:
    """A sentence true of nothing here: looks that do not occur, or not together, or a motion that nothing makes."""
    for _ in range(8):
        if draw.chance(0.4):
            program = Program(draw.pick(alike).looks, Moves(draw.pick(MOTIONS)))
        else:
            chosen = draw.pick([subset for subset in _SUBSETS if "shape" in subset and 2 <= len(subset) <= 3])
            looks = [Looks(attribute, _value(draw.pick(world.things), attribute)) for attribute in chosen]
            if draw.chance(0.3):
                strange = draw.pick(("colour", "shape"))
                other = Looks(strange, draw.pick(_VALUES[strange]))
                looks = [other if claim.attribute == strange else claim for claim in looks]
            program = Program(tuple(looks))
        if judge.referents(program) == ():
            return Sentence(draw.pick(phrasings(program)), "no-target", program, ())
    return None


def _value(thing: Thing, attribute: str) -> str:
    if attribute == "size":
        return "large" if thing.radius > 0.13 else "small"
    return str(getattr(thing, attribute))
