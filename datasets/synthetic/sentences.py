"""Which sentences are said of a world: programs drawn by family, put into words, with their verified answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from .draw import Draw
from .offers import Offer, Offers
from .phrases import is_held_out, phrasings
from .program import Claim, Program
from .verifier import Verifier

HeldOut = Literal["any", "exclude", "only"]
_TRIES = 8  # programs tried until one can be said in the phrasings that are wanted


@dataclass(frozen=True)
class Sentence:
    """A sentence with its program, its family and its verified answer: ids ascending, none for no target."""

    text: str
    family: str
    program: Program
    object_ids: tuple[int, ...]


def draw_sentences(
    draw: Draw,
    verifier: Verifier,
    count: int,
    shares: Mapping[str, float],
    *,
    about: int,
    static: bool,
    held_out: HeldOut,
) -> tuple[Sentence, ...]:
    """Up to `count` different sentences, each with one clear answer.

    shares: of the families; where a world offers none of one, another of them is used. about: the things that may be
    spoken of, as bits; a sentence of several speaks of at least one of them. static: only what one frame can answer.
    held_out: whether phrasings and combinations that are held out may be used, must not, or have to.
    """
    offers = Offers(draw, verifier, about, static)
    chosen: list[Sentence] = []
    texts: set[str] = set()
    used: dict[int, int] = {}
    told: set[tuple[Claim | Program, int]] = set()
    for _ in range(count):
        for family, fresh in _wishes(draw, shares):
            found = [offer for offer in offers.of(family) if not fresh or offer.meaning not in told]
            if family != "no-target":
                fewest = min((used.get(offer.answer, 0) for offer in found), default=0)
                found = [offer for offer in found if used.get(offer.answer, 0) == fewest]
            sentence = _say(draw, verifier, family, found, texts, held_out)
            if sentence:
                said, offer = sentence
                texts.add(said.text)
                told.add(offer.meaning)
                used[offer.answer] = used.get(offer.answer, 0) + 1
                chosen.append(said)
                break
    return tuple(chosen)


def _wishes(draw: Draw, shares: Mapping[str, float]) -> Iterator[tuple[str, bool]]:
    """Families by their shares, and whether a new meaning is wanted; no target only as the first wish.

    Of the first one, what was said before may be said in other words before another family takes its share.
    """
    left = {family: share for family, share in shares.items() if share > 0}
    first = draw.pick(tuple(left), tuple(left.values()))
    yield from ((first, True), (first, False))
    rest = [family for family in left if family not in (first, "no-target")]
    rest = draw.some(rest, len(rest))
    yield from ((family, fresh) for fresh in (True, False) for family in rest)


def _say(
    draw: Draw, verifier: Verifier, family: str, found: list[Offer], texts: set[str], held_out: HeldOut
) -> tuple[Sentence, Offer] | None:
    """One of the programs in one of the wanted phrasings that was not said before, and where it is from."""
    for _ in range(_TRIES if found else 0):
        offer = draw.pick(found)
        program = offer.program(draw)
        rare = is_held_out(program)
        if rare and held_out == "exclude":
            continue
        said = [
            phrase.text
            for phrase in phrasings(program)
            if held_out == "any" or (phrase.held_out or rare) == (held_out == "only")
        ]
        text = draw.pick(said) if said else ""
        if text and text not in texts:
            return Sentence(text, family, program, verifier.ids(offer.answer)), offer
    return None
