"""How programs are said: every phrasing of a program, and whether it is one that training may be kept from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from . import wording
from .program import Claim, Look, Most, Moves, Mutual, Not, Order, Placed, Program, Relation, Timing
from .wording import HELD_OUT, stable_hash

# One in this many combinations of words is held out.
_COMBINATIONS = 8


class Phrase(NamedTuple):
    """Words, and whether a phrasing in them is held out."""

    text: str
    held_out: bool


def is_held_out(program: Program) -> bool:
    """Whether it combines, in one description, a colour or a motion with a shape that training may be kept from."""
    value = {look.attribute: look.value for look in program.looks}
    others = [claim.other for claim in program.claims if isinstance(claim, Relation | Timing)]
    if any(is_held_out(other) for other in others):
        return True
    if "shape" not in value:
        return False
    beside = [value[name] for name in ("colour",) if name in value]
    beside += [claim.motion for claim in program.claims if isinstance(claim, Moves)]
    beside += [claim.kind for claim in program.claims if isinstance(claim, Relation | Mutual)]
    beside += [claim.event for claim in program.claims if isinstance(claim, Order | Timing)]
    return any(stable_hash(f"{word} {value['shape']}") % _COMBINATIONS == 0 for word in beside)


def phrasings(program: Program) -> tuple[Phrase, ...]:
    """Every way this program can be said."""
    said: dict[str, bool] = {}
    for number in wording.NUMBERS[program.number]:
        many = program.number != 1 and number != "every"
        for noun_phrase in _noun_phrases(program, many):
            said[_agree(f"{number} {noun_phrase.text}", many)] = noun_phrase.held_out
    return tuple(Phrase(text, held) for text, held in said.items())


def _noun_phrases(program: Program, many: bool) -> Iterator[Phrase]:
    """What follows the number, with bars where one and several differ."""
    value = {look.attribute: look.value for look in program.looks}
    clauses = [_clauses(claim, many) for claim in program.claims if not isinstance(claim, Look | Most | Placed | Order)]
    ranking = [claim for claim in program.claims if isinstance(claim, Most | Placed | Order)]
    nouns = (_plural(value["shape"]),) if "shape" in value else wording.NOUNS
    sizes = wording.SIZE_WORDS[value["size"]] if "size" in value else ("",)
    colour, texture = value.get("colour", ""), value.get("texture", "")
    alone = not clauses and not ranking
    for size, noun in product(sizes, nouns):
        plain = _join(size, colour, texture, noun)
        for ranked in _ranked(ranking, plain, before=bool(clauses)):
            for chosen in product(*clauses):
                text = _join(ranked.text, " and ".join(clause.text for clause in chosen))
                yield Phrase(text, ranked.held_out or any(clause.held_out for clause in chosen))
        # A clause after these would seem to speak of the pattern.
        if texture and alone:
            yield Phrase(_join(size, colour, noun, wording.PATTERNS[texture]), False)
        described = [word for word in (size, colour, texture) if word]
        if described and alone and size != "little":
            yield Phrase(_join(noun, "that is|are", " and ".join(described)), False)


def _ranked(claims: Sequence[Claim], noun: str, *, before: bool) -> list[Phrase]:
    """The noun with what ranks it, before it or after; only before where a clause follows."""
    said = [Phrase(noun, False)]
    for claim in claims:
        forms = [form for form in _rank(claim) if not (before and form.text.startswith("{x}"))]
        said = [Phrase(form.replace("{x}", x.text), held or x.held_out) for form, held in forms for x in said]
    return said


def _rank(claim: Claim) -> list[Phrase]:
    if isinstance(claim, Most):
        return _forms(wording.QUALITIES[claim.quality])
    if isinstance(claim, Placed):
        place = wording.PLACES[claim.side]
        return [Phrase(form.replace("{y}", place), held) for form, held in _forms(wording.PLACED[claim.when])]
    assert isinstance(claim, Order)
    rank = wording.RANKS[claim.rank]
    said = []
    for form, held in _forms(wording.ORDER):
        for event, event_held in _forms(wording.EVENTS[claim.event]):
            text = (
                form.replace("{rank}", rank)
                .replace("{does}", _agree(event, False))
                .replace("{do}", _agree(event, True))
            )
            said.append(Phrase(text, held or event_held))
    return said


def _clauses(claim: Claim, many: bool) -> list[Phrase]:
    """What says a claim after the noun."""
    if isinstance(claim, Moves):
        return _forms(wording.MOTIONS[claim.motion])
    if isinstance(claim, Mutual):
        return _forms(wording.MUTUAL[claim.kind])
    if isinstance(claim, Not):
        return _negated(claim.claim)
    if isinstance(claim, Relation):
        return _fill(_forms(wording.RELATIONS[claim.kind]), phrasings(claim.other))
    assert isinstance(claim, Timing)
    said = []
    for form, event, other_event in product(
        _forms(wording.TIMING), _forms(wording.EVENTS[claim.event]), _forms(wording.EVENTS[claim.other_event])
    ):
        text = form.text.replace("{does}", event.text).replace("{when}", claim.when)
        held = form.held_out or event.held_out or other_event.held_out
        said.append(Phrase(text.replace("{y}", _agree(other_event.text, False)), held))
        if claim.event == claim.other_event and event == other_event:
            said.append(Phrase(text.replace(" {y}", ""), held))
    return _fill(said, phrasings(claim.other))


def _negated(claim: Look | Moves) -> list[Phrase]:
    if isinstance(claim, Moves):
        said = []
        for verb in wording.NEGATED[claim.motion]:
            said += [Phrase(form.replace("{x}", verb), False) for form in wording.NOT]
        return said
    words = wording.SIZE_WORDS.get(claim.value, (claim.value,))
    if claim.attribute == "shape":
        words = (f"a| {claim.value}|{_plural(claim.value).split('|')[1]}",)
    # "Other than" needs a noun.
    forms = [form for form in _forms(wording.NOT_LOOK) if claim.attribute == "shape" or "other" not in form.text]
    return [Phrase(form.text.replace("{x}", word), form.held_out) for form in forms for word in words]


def _forms(group: Sequence[str]) -> list[Phrase]:
    return [Phrase(form, form in HELD_OUT) for form in group]


def _fill(forms: Sequence[Phrase], others: Sequence[Phrase]) -> list[Phrase]:
    return [
        Phrase(form.text.replace("{x}", other.text), form.held_out or other.held_out)
        for form in forms
        for other in others
    ]


def _plural(shape: str) -> str:
    return f"{shape}|{shape}es" if shape.endswith("s") else f"{shape}|{shape}s"


def _agree(text: str, many: bool) -> str:
    """Take one side of every bar."""
    return _join(*(word.split("|")[-1 if many else 0] for word in text.split()))


def _join(*words: str) -> str:
    return " ".join(filter(None, words))
