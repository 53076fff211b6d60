"""The language of the synthetic world as a list, for training a tokenizer: every word, and all short sentences."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, product

from .offers import SUBSETS, VALUES
from .phrases import phrasings
from .program import (
    ALL,
    EVENTS,
    MOTIONS,
    MUTUAL,
    QUALITIES,
    RANKS,
    RELATIONS,
    SIDES,
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


def all_sentences() -> Iterator[str]:
    """Different sentences: all of appearance, motions of what one attribute names, the rest of every kind in turn."""
    said: set[str] = set()
    for program in _programs():
        for phrase in phrasings(program):
            if phrase.text not in said:
                said.add(phrase.text)
                yield phrase.text


def _programs() -> Iterator[Program]:
    for chosen in SUBSETS:
        for values in product(*(VALUES[attribute] for attribute in chosen)):
            looks = tuple(map(Look, chosen, values))
            yield Program(looks)
            if len(chosen) == 1:
                yield from (Program(looks, number) for number in (2, 3, ALL))
                yield from (Program((*looks, claim)) for claim in _own_claims())
    bases = cycle(_some_looks("shape") + _some_looks("colour"))
    others = cycle(_some_looks("colour", "shape"))
    yield from (Program((*next(bases), Not(look))) for (look,) in _some_looks("colour") + _some_looks("shape"))
    yield from (Program((*next(bases), Not(look))) for (look,) in _some_looks("texture") + _some_looks("size"))
    yield from (Program((*next(bases), Moves(motion)), number) for motion in MOTIONS for number in (2, 3, ALL))
    yield from (Program((*next(bases), Mutual(kind)), 2) for kind in MUTUAL for _ in range(6))
    for kind, _ in product(RELATIONS, range(8)):
        yield Program((*next(bases), Relation(kind, Program(next(others)))))
    for event, other_event, when in product(EVENTS, EVENTS, ("before", "after")):
        yield Program((*next(bases), Timing(event, when, Program(next(others)), other_event)))


def _own_claims() -> list[Claim]:
    """What can be said of a thing beside its looks without speaking of another."""
    claims: list[Claim] = [Moves(motion) for motion in MOTIONS]
    claims += [Not(Moves(motion)) for motion in MOTIONS]
    claims += [Most(quality) for quality in QUALITIES]
    claims += [Placed(when, side) for when in ("start", "end") for side in SIDES]
    return claims + [Order(event, rank) for event in EVENTS for rank in RANKS]


def _some_looks(*attributes: str) -> list[tuple[Look, ...]]:
    return [tuple(map(Look, attributes, values)) for values in product(*(VALUES[name] for name in attributes))]
