"""The default parser: the head noun of a sentence's first noun phrase, by rules and without a download.

It is built for referring expressions ("the small dog on the left that runs away"), which begin with the thing they
mean. What rules cannot tell is left out: `cardinality` is then "unknown", and an attribute is missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from models.teacher import words
from models.teacher.interfaces import Cardinality, ModelInfo, Parsed
from models.teacher.words import GENERIC

__all__ = ["GENERIC", "RuleParser"]

_PICTURE = frozenset({"picture", "image", "screen", "frame", "video", "photo", "scene", "view", "road", "street"})


class RuleParser:
    """An `ExpressionParser`. Every text has an answer; one that names nothing means an "object"."""

    @property
    def info(self) -> ModelInfo:
        return ModelInfo("rules", "head-noun", "1", "the code's own")

    def parse(self, text: str) -> Parsed:
        tokens = re.findall(r"[^\W_]+(?:['’][^\W_]+)?|[,;:.()]", text.lower().replace("-", " "))
        phrase = _noun_phrase(tokens)
        noun = _head(phrase.words)
        cardinality, k = _cardinality(phrase, noun)
        hypernym = words.HYPERNYMS.get(noun)
        if phrase.also:
            other = _head(phrase.also)
            common = {noun, hypernym} & {other, words.HYPERNYMS.get(other)} - {None}
            hypernym = min(map(str, common)) if common else other
        rest = [token for token in tokens if token not in phrase.words[-1:]]
        return Parsed(
            text=text,
            noun="object" if noun in GENERIC else noun,
            hypernym=None if hypernym == noun else hypernym,
            cardinality=cardinality,
            k=k,
            negated=any(token in words.NEGATIONS or token.endswith(("n't", "n’t")) for token in tokens),
            motion=any(words.verb(token) for token in rest),
            attributes=_attributes(phrase, tokens),
        )


@dataclass(frozen=True)
class _Phrase:
    """words  of the noun phrase, its noun last; counts  what stood before them; also  a second one after "and"

    end  position in the sentence of the first word after it; definite  it began with "the"
    """

    words: tuple[str, ...]
    counts: tuple[str, ...]
    also: tuple[str, ...]
    end: int
    definite: bool


def _noun_phrase(tokens: Sequence[str]) -> _Phrase:
    """The first noun phrase; in "a group of dogs" and "one of the dogs" it is that of the dogs."""
    counts: list[str] = []
    start, definite = 0, False
    while True:
        start = _skip(tokens, start, counts)
        definite = definite or "the" in tokens[:start]
        found, end = _run(tokens, start)
        head = words.singular(found[-1]) if found else ""
        of = end < len(tokens) - 1 and tokens[end] == "of"
        if of and (head in words.COLLECTIVE or (not found and counts) or head == "one"):
            counts += ["group" if head in words.COLLECTIVE and head not in words.NUMBERS else head, *found[:-1]]
            start = end + 1
            continue
        break
    also: list[str] = []
    if found and end < len(tokens) - 1 and tokens[end] == "and":
        also, _ = _run(tokens, _skip(tokens, end + 1, []))
    return _Phrase(tuple(found), tuple(counts), tuple(also), end, definite)


def _skip(tokens: Sequence[str], start: int, counts: list[str]) -> int:
    """The position after articles, numbers and words like "all", which go to `counts`."""
    while start < len(tokens):
        word = tokens[start]
        if word in words.MANY or (word in words.NUMBERS and word not in words.COLLECTIVE):
            counts.append(word)
        elif word not in words.DETERMINERS and not re.fullmatch(r"[,;:.()]", word):
            break
        start += 1
    return start


def _run(tokens: Sequence[str], start: int) -> tuple[list[str], int]:
    """The words of a noun phrase from `start`, and the position after it."""
    found: list[str] = []
    end = start
    while end < len(tokens):
        word = tokens[end]
        named = any(not words.is_adjective(w) and not words.is_participle(w) for w in found)
        if word == "and" and found and not named:  # "a black and white dog"
            end += 1
            continue
        if word in words.STOPS or word in words.NEGATIONS:
            break
        if found and tokens[end + 1 : end + 2] == ["than"]:  # "the dog faster than the cat"
            break
        if named and (words.is_participle(word) or word.endswith("ly") or (words.verb(word) and _third(word, found))):
            break
        if named and (word in ("left", "right") or word in words.DETERMINERS):
            break
        found.append(word)
        end += 1
    while found and len(found) > 1 and (found[-1] in words.ATTRIBUTES or found[-1] in words.NUMBERS):
        if all(words.is_adjective(word) for word in found[:-1]):
            break
        found.pop()
        end -= 1
    return found, end


def _third(word: str, found: Sequence[str]) -> bool:
    """Whether a word that may be a verb is one here: "man walks", "dogs run", and not "ski rider"."""
    return word.endswith("s") or words.singular(found[-1]) != found[-1] or found[-1] in words.HYPERNYMS


def _head(found: Sequence[str]) -> str:
    """The noun of a phrase, for one of its kind; "object" where there is none."""
    for size in (3, 2):
        compound = " ".join([*found[-size:-1], *map(words.singular, found[-1:])])
        if compound in words.COMPOUNDS:
            return compound
    named = [word for word in found if not words.is_adjective(word)]
    if not named and found and found[-1] in words.ALSO_NOUNS:
        return found[-1]
    return words.singular(named[-1]) if named else "object"


def _cardinality(phrase: _Phrase, noun: str) -> tuple[Cardinality, int | None]:
    numbers = [words.NUMBERS[word] for word in phrase.counts if word in words.NUMBERS]
    if "one" in phrase.counts:
        return "one", None
    if phrase.also:
        plain = not numbers and not phrase.counts and all(_is_one(part) for part in (phrase.words, phrase.also))
        return ("k", 2) if plain else ("many", None)
    if numbers:
        return "k", numbers[0]
    if set(phrase.counts) - {"each", "every", "some"}:
        return "many", None
    if phrase.counts or not phrase.words:
        return "unknown" if phrase.counts == ("some",) or not phrase.words else "many", None
    return ("one" if _is_one(phrase.words) else "many"), None


def _is_one(found: Sequence[str]) -> bool:
    """Nouns that look the same for one and for many ("sheep") are taken for one."""
    return words.singular(found[-1]) == found[-1]


def _attributes(phrase: _Phrase, tokens: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Colour, size and order from the noun phrase or from "that is ..." after it; the side from anywhere.

    "to the left of the car" is no side of the picture, and "moving left" is no side at all.
    """
    described = list(phrase.words)
    after = tokens[phrase.end :]
    if len(after) > 2 and after[0] in ("that", "which", "who") and after[1] in ("is", "are"):
        for word in after[2:]:
            if word not in words.ATTRIBUTES and word != "and":
                break
            described.append(word)
    found: dict[str, list[str]] = {}
    for word in described:
        kind = words.ATTRIBUTES.get(word)
        if kind is not None and not (kind == "side" and word in after):
            found.setdefault(kind, []).append(words.SAME.get(word, word))
    side = _side(after)
    if side:
        found.setdefault("side", []).append(side)
    return {kind: tuple(dict.fromkeys(values)) for kind, values in found.items()}


def _side(after: Sequence[str]) -> str:
    """left or right, where the sentence says that the thing is there in the picture."""
    for at, word in enumerate(after):
        if words.ATTRIBUTES.get(word) != "side" or words.SAME.get(word, word) not in ("left", "right"):
            continue
        before, behind = after[max(0, at - 4) : at], list(after[at + 1 : at + 4])
        if any(words.verb(w) and w not in ("left", "stands", "standing", "sitting", "sits") for w in before):
            continue
        if "from" in before or (behind[:1] == ["of"] and not set(behind) & _PICTURE):
            continue
        if not behind or behind[0] in ("of", "side", "corner", "edge", "part", "end", "in", "that", "who", ",", "."):
            return words.SAME.get(word, word)
    return ""
