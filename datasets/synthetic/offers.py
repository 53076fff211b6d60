"""What can be said of a world: the programs of each family to which the verifier has one clear answer.

What a sentence adds to looks has to matter: its words for looks alone fit several things, and the rest decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product

from .draw import Draw
from .layout import COLOURS, SIZES, TEXTURES
from .program import (
    ALL,
    ATTRIBUTES,
    EVENTS,
    MOTIONS,
    MUTUAL,
    QUALITIES,
    RELATIONS,
    SIDES,
    SPATIAL,
    Claim,
    Look,
    Most,
    Moves,
    Mutual,
    Not,
    Order,
    Placed,
    Program,
    Relation,
    Timing,
)
from .shapes import SHAPES
from .verifier import Verdict, Verifier

VALUES = {"size": tuple(SIZES), "colour": COLOURS, "texture": TEXTURES, "shape": SHAPES}
SUBSETS = [chosen for count in range(1, 5) for chosen in combinations(ATTRIBUTES, count)]
_SIZES = tuple(Look("size", size) for size in SIZES)
_COMPOSED = 0.3  # share of sentences whose base has a motion beside looks

# Kinds of claims, by family: what is drawn first is said if it can be.
_TOPICS: dict[str, list[tuple[str, str]]] = {
    "motion": [("moves", motion) for motion in MOTIONS] + [("most", quality) for quality in QUALITIES],
    "relation": [("relation", kind) for kind in RELATIONS] + [("placed", "start"), ("placed", "end")],
    "order": [("order", event) for event in EVENTS] + [("timing", event) for event in EVENTS],
    "count": [("mutual", kind) for kind in MUTUAL],
    "negation": [("not look", name) for name in ATTRIBUTES] + [("not", motion) for motion in MOTIONS],
}
# Weights of kinds that nearly every world offers, so that the others are heard of.
_RARER = {"most": 0.1, "faster": 0.2, "slower": 0.2, "placed": 0.4, "moving": 0.3} | dict.fromkeys(SPATIAL, 0.3)


@dataclass(frozen=True)
class Offer:
    """Programs that share an answer (bits): each of the bases, with the claim if there is one, and a number."""

    bases: tuple[Program, ...]
    answer: int
    claim: Claim | None = None
    number: int = 1

    @property
    def meaning(self) -> tuple[Claim | Program, int]:
        """What makes another sentence of the same video a repetition."""
        return self.claim or self.bases[0], self.answer

    def program(self, draw: Draw) -> Program:
        base = draw.pick(self.bases)
        return Program((*base.claims, self.claim) if self.claim else base.claims, self.number)


@dataclass(frozen=True)
class Base:
    """Descriptions that fit the same several things (bits); `moving`: they speak of a motion."""

    programs: tuple[Program, ...]
    things: int
    moving: bool = False


class Offers:
    """The programs of one world that have a clear answer, found family by family when asked for."""

    def __init__(self, draw: Draw, verifier: Verifier, about: int, static: bool) -> None:
        self._draw, self._verifier, self._about, self._static = draw, verifier, about, static

    def of(self, family: str) -> list[Offer]:
        """Programs of a family and their answers; of claims of one kind, which is drawn anew each time."""
        if family in ("appearance", "category"):
            named = {things: programs for things, programs in self._names.items() if things & self._about}
            offers = [Offer((program,), things) for things, programs in named.items() for program in programs]
            return [offer for offer in offers if offer.bases[0].family == family]
        if family == "no-target":
            return self._missing()
        if family == "count":
            sets = self._counts()
            if sets:
                return sets
        bases = self._bases
        if not self._static and self._draw.chance(_COMPOSED):
            bases = self._moving() + bases
        for claims in self._topics(family):
            found = [offer for claim in claims for offer in self._decided(claim, bases)]
            if found:
                return found
        return []

    def _decided(self, claim: Claim, bases: list[Base]) -> Iterator[Offer]:
        """Where the claim tells a thing, or two, from others that the base's words fit too."""
        count = 2 if isinstance(claim, Mutual) else 1
        ranks = isinstance(claim, Most | Placed | Order | Mutual)
        alone = Verdict(0, 0) if ranks else self._verifier.claim(claim)
        for base in bases:
            # "The circle that moves left that is the first to stop": which comes first would be arguable.
            if base.moving and isinstance(claim, Placed | Order):
                continue
            whole = Verdict(base.things, base.things)
            among = self._verifier.among(whole, [claim]) if ranks else whole.both(alone)  # type: ignore[list-item]
            if among.yes == among.maybe and among.yes & self._about and among.yes.bit_count() == count:
                yield Offer(base.programs, among.yes, claim, count)

    def _topics(self, family: str) -> Iterator[list[Claim]]:
        """Claims of a family, those of one kind together, the kinds in random order."""
        topics = [
            topic for topic in _TOPICS[family] if not self._static or topic[0] == "not look" or topic[1] in SPATIAL
        ]
        while topics:
            topic = self._draw.pick(topics, [_RARER.get(kind, _RARER.get(name, 1.0)) for kind, name in topics])
            topics.remove(topic)
            yield self._claims(*topic)

    def _claims(self, kind: str, name: str) -> list[Claim]:
        if kind == "moves":
            return [Moves(name)]
        if kind == "not":
            return [Not(Moves(name))]
        if kind == "not look":
            return [Not(Look(name, value)) for value in sorted(self._values[name])]
        if kind == "most":
            return [Most(name)]
        if kind == "placed":
            return [Placed(name, side) for side in SIDES]
        if kind == "mutual":
            return [Mutual(name)]
        if kind == "order":
            return [Order(name, rank) for rank in (1, 2, -1)]
        others = self._described()
        if kind == "relation":
            return [Relation(name, other) for other in others]
        events = dict.fromkeys((name, self._draw.pick(EVENTS)))
        whens = ("before", "after")
        return [Timing(name, when, other, event) for when in whens for other in others for event in events]

    def _counts(self) -> list[Offer]:
        """Sets that looks, or looks and a motion, are true of; half of the time none: mutual ones get a share."""
        if not self._static and self._draw.chance(0.5):
            return []
        moving = [] if self._static or self._draw.chance(0.4) else self._moving()
        found = []
        for base in moving or self._bases:
            count = base.things.bit_count()
            if base.things & self._about and base.things != self._verifier.everything:
                found += [Offer(base.programs, base.things, number=number) for number in (count, ALL) if number <= 3]
        return found

    def _moving(self) -> list[Base]:
        """Bases with a motion beside their looks, still true of several things but not of all that the looks fit."""
        found = []
        for motion in map(Moves, self._draw.some(MOTIONS, 4)):
            claim = self._verifier.claim(motion)
            for base in self._bases:
                both = Verdict(base.things, base.things).both(claim)
                if both.yes == both.maybe and both.yes.bit_count() > 1 and both.yes != base.things:
                    looks = self._draw.pick(base.programs)
                    found.append(Base((Program((*looks.claims, motion)),), both.yes, moving=True))
        return found

    def _missing(self) -> list[Offer]:
        """Programs that nothing here meets: looks that do not occur together, or something that none of these does."""
        draw = self._draw
        found: list[Program] = []
        for _ in range(8):
            if self._static or draw.chance(0.4):
                found.append(self._strange())
                continue
            family = draw.pick(("motion", "motion", "relation", "order"))
            claims = next(self._topics(family))
            if claims:
                looks = draw.pick(draw.pick(self._bases).programs)
                found.append(Program((*looks.claims, draw.pick(claims))))
        return [Offer((program,), 0) for program in found if self._verifier.referents(program) == ()]

    def _strange(self) -> Program:
        """Looks of different things put together, now and then with a value that may not occur."""
        draw, things = self._draw, self._verifier.observed.things
        chosen = draw.pick([subset for subset in SUBSETS if "shape" in subset and 2 <= len(subset) <= 3])
        looks = [Look(name, draw.pick(sorted(self._values[name]))) for name in chosen]
        if draw.chance(0.3):
            strange = draw.pick(("colour", "shape"))
            other = Look(strange, draw.pick(VALUES[strange]))
            looks = [other if look.attribute == strange else look for look in looks]
        assert things
        return Program(tuple(looks))

    @cached_property
    def _values(self) -> dict[str, set[str]]:
        """The values of each attribute that occur."""
        things = self._verifier.observed.things
        values = {name: {getattr(thing, name) for thing in things} for name in ("colour", "texture", "shape")}
        return values | {"size": set(SIZES)}

    @cached_property
    def _looks(self) -> dict[int, list[Program]]:
        """Every settled description by looks of at least one thing, by the things that it fits (bits)."""
        found = {self._verifier.everything: [Program()]}
        known: set[tuple[Look, ...]] = set()
        for order, thing in enumerate(self._verifier.observed.things):
            sizes = [look for look in _SIZES if self._verifier.claim(look).yes >> order & 1]
            own = {name: [Look(name, getattr(thing, name))] for name in ("colour", "texture", "shape")} | {
                "size": sizes
            }
            for looks in (looks for chosen in SUBSETS for looks in product(*(own[name] for name in chosen))):
                if looks in known:
                    continue
                known.add(looks)
                yes = maybe = self._verifier.everything
                for look in looks:
                    claim = self._verifier.claim(look)
                    yes, maybe = yes & claim.yes, maybe & claim.maybe
                if yes == maybe:
                    found.setdefault(yes, []).append(Program(looks))
        return found

    @cached_property
    def _bases(self) -> list[Base]:
        """What several things share."""
        return [Base(tuple(programs), things) for things, programs in self._looks.items() if things.bit_count() > 1]

    @cached_property
    def _names(self) -> dict[int, list[Program]]:
        """What names one thing by its looks, with at most one word more than needed, by that thing (a bit)."""
        found = {}
        for things, programs in self._looks.items():
            if things.bit_count() == 1:
                shortest = min(len(program.claims) for program in programs)
                found[things] = [program for program in programs if len(program.claims) <= shortest + 1]
        return found

    def _described(self) -> list[Program]:
        """A description of each thing that looks can name, drawn anew each time; now and then one by what it does."""
        found = [self._draw.pick(programs) for programs in self._names.values()]
        if not self._static:
            told = list(self._decided(Moves(self._draw.pick(MOTIONS)), self._bases))
            found += [self._draw.pick(told).program(self._draw)] if told else []
        return found
