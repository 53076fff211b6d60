"""How programs are said, and which of them are: verified sentences in three families, with several phrasings each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

from .claims import Judge, Looks, Moves, Program
from .draw import Draw
from .layout import COLOURS, MOTIONS, SIZES, TEXTURES
from .shapes import SHAPES
from .world import Thing, World

ATTRIBUTES = ("size", "colour", "texture", "shape")
_VALUES = {"size": tuple(SIZES), "colour": COLOURS, "texture": TEXTURES, "shape": SHAPES}
_SUBSETS = [chosen for count in range(1, 5) for chosen in combinations(ATTRIBUTES, count)]

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
    offers = {"appearance": named, "motion": _told_apart(judge, world, alike)}
    chosen: list[Sentence] = []
    texts: set[str] = set()
    used: dict[tuple[int, ...], int] = {}
    for _ in range(count):
        mark = draw.between(0, 1)
        wanted = "no-target" if mark < no_target else "motion" if mark < no_target + motion else "appearance"
        for family in (wanted, *(name for name in offers if name != wanted)):
            sentence = _missing(draw, judge, world, list(alike)) if family == "no-target" else None
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


def _name(judge: Judge, world: World) -> tuple[Offers, dict[Program, tuple[int, ...]]]:
    """What names one thing by its looks, with at most one word more than needed; and what several things share."""
    described: dict[Program, None] = {Program(()): None}
    for thing in world.things:
        for chosen in _SUBSETS:
            described[Program(tuple(Looks(attribute, _value(thing, attribute)) for attribute in chosen))] = None
    named: Offers = {}
    alike: dict[Program, tuple[int, ...]] = {}
    for program in described:
        ids = judge.referents(program)
        if ids is not None and len(ids) > 1:
            alike[program] = ids
        elif ids is not None and (ids not in named or len(program.looks) <= len(named[ids][0].looks) + 1):
            named.setdefault(ids, []).append(program)
    return named, alike


def _told_apart(judge: Judge, world: World, alike: dict[Program, tuple[int, ...]]) -> Offers:
    """What names one thing by its motion among things that share the words for their looks."""
    order = {thing.id: number for number, thing in enumerate(world.things)}
    offers: Offers = {}
    for program, ids in alike.items():
        for move in map(Moves, MOTIONS):
            verdicts = judge.verdicts(move)
            among = [verdicts[order[id_]] for id_ in ids]
            if None not in among and among.count(True) == 1:
                offers.setdefault((ids[among.index(True)],), []).append(Program(program.looks, move))
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
