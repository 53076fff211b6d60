"""What a sentence claims, as a tree: frozen, comparable, to JSON and back. Nothing here knows what is true.

A program is the claims that its referents meet, and how many referents the sentence speaks of. Claims about a thing on
its own (`Look`, `Moves`), about it and another described one (`Relation`, `Timing`), about two of the set (`Mutual`),
and claims that rank the things that meet all the others (`Most`, `Placed`, `Order`): "the second circle to stop" is
second among circles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from util.errors import InputError

ATTRIBUTES = ("size", "colour", "texture", "shape")
DIRECTIONS = ("left", "right", "up", "down")
MOTIONS = (
    *("still", "moving", *DIRECTIONS, "circling", "approaching", "receding"),
    *("stopping", "starting", "turning", "turning back", "zigzag"),
    *("late", "leaving", "returning"),
)
QUALITIES = ("fastest", "slowest")
# Where the two are, in every frame: one frame answers. The others need time.
SPATIAL = ("left of", "right of", "above", "below")
RELATIONS = (*SPATIAL, "follows", "overtakes", "collides", "crosses", "faster", "slower")
MUTUAL = ("cross", "collide", "exchange")
EVENTS = ("enters", "leaves", "returns", "stops", "starts", "turns")
RANKS = (1, 2, 3, -1)  # -1: the last
SIDES = ("left", "right", "top", "bottom")
ALL = 0  # `Program.number` of "all circles"

FAMILIES = ("appearance", "category", "motion", "relation", "order", "count", "negation", "no-target")


@dataclass(frozen=True)
class Look:
    """An attribute has a value; size is small or large."""

    attribute: str
    value: str


@dataclass(frozen=True)
class Moves:
    """A motion of `MOTIONS` is made, as seen on the screen over the whole video."""

    motion: str


@dataclass(frozen=True)
class Most:
    """The fastest or the slowest of the set."""

    quality: str


@dataclass(frozen=True)
class Placed:
    """The one of the set that is farthest on a side of `SIDES` at the video's "start" or "end"."""

    when: str
    side: str


@dataclass(frozen=True)
class Order:
    """The `rank`-th of the set to whom an event happens (1, 2, 3, or -1 for the last)."""

    event: str
    rank: int


@dataclass(frozen=True)
class Relation:
    """Stands in a relation of `RELATIONS` to the one thing that `other` describes."""

    kind: str
    other: Program


@dataclass(frozen=True)
class Timing:
    """An event happens to it "before" or "after" another event happens to what `other` describes."""

    event: str
    when: str
    other: Program
    other_event: str


@dataclass(frozen=True)
class Mutual:
    """Two things of the set cross, collide or exchange places with each other."""

    kind: str


@dataclass(frozen=True)
class Not:
    """A claim about the thing on its own does not hold."""

    claim: Look | Moves


Claim = Look | Moves | Most | Placed | Order | Relation | Timing | Mutual | Not
_KINDS: dict[str, type] = {
    kind.__name__.lower(): kind for kind in (Look, Moves, Most, Placed, Order, Relation, Timing, Mutual, Not)
}


@dataclass(frozen=True)
class Program:
    """The claims of one sentence and the number of its referents: 1, 2, 3, or `ALL` for all there are (two or more)."""

    claims: tuple[Claim, ...] = ()
    number: int = 1

    @property
    def family(self) -> str:
        """Which family of sentences this belongs to when something meets it; "no-target" is a matter of the answer."""
        kinds = {type(claim) for claim in self.claims}
        if self.number != 1:
            return "count"
        if Not in kinds:
            return "negation"
        if kinds & {Order, Timing}:
            return "order"
        if kinds & {Relation, Placed}:
            return "relation"
        if kinds & {Moves, Most, Mutual}:
            return "motion"
        return "category" if [claim.attribute for claim in self.looks] == ["shape"] else "appearance"

    @property
    def looks(self) -> tuple[Look, ...]:
        return tuple(claim for claim in self.claims if isinstance(claim, Look))

    @property
    def times_matter(self) -> bool:
        """Whether some part of it cannot be judged from one frame."""
        return any(_needs_time(claim) for claim in self.claims)

    @property
    def depth(self) -> int:
        """How many descriptions lie in one another: 1 where no other thing is spoken of."""
        others = [claim.other.depth for claim in self.claims if isinstance(claim, Relation | Timing)]
        return 1 + max(others, default=0)

    def timeless(self) -> Program:
        """What is left when every claim that needs time is taken out."""
        return replace(self, claims=tuple(claim for claim in self.claims if not _needs_time(claim)))

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers; `from_json` is the inverse."""
        return {"number": self.number, "claims": [_claim_to_json(claim) for claim in self.claims]}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Program:
        """InputError where the value is no program."""
        try:
            return Program(tuple(_claim_from_json(claim) for claim in value["claims"]), int(value["number"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{str(value)[:200]!r} is no program of a sentence; write it with Program.to_json"
            ) from error


def _needs_time(claim: Claim) -> bool:
    if isinstance(claim, Not):
        return _needs_time(claim.claim)
    if isinstance(claim, Relation):
        return claim.kind not in SPATIAL or claim.other.times_matter
    return not isinstance(claim, Look)


def _claim_to_json(claim: Claim) -> dict[str, Any]:
    fields: dict[str, Any] = {"kind": type(claim).__name__.lower()}
    for name, value in vars(claim).items():
        if isinstance(value, Program):
            value = value.to_json()
        elif name == "claim":
            value = _claim_to_json(value)
        fields["relation" if name == "kind" else name] = value
    return fields


def _claim_from_json(value: dict[str, Any]) -> Claim:
    fields = {name: field for name, field in value.items() if name != "kind"}
    if "relation" in fields:
        fields["kind"] = fields.pop("relation")
    if "other" in fields:
        fields["other"] = Program.from_json(fields["other"])
    if "claim" in fields:
        fields["claim"] = _claim_from_json(fields["claim"])
    made: Claim = _KINDS[value["kind"]](**fields)
    return made
