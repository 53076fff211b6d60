"""Phrases as Grounding DINO reads them: lower case, one block closed by a full stop, and the tokens of each word."""

from __future__ import annotations

import re
from collections.abc import Sequence

from util.errors import InputError

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
# What follows one of these describes the head noun: "man in a blue coat", "glass of water", "dog that runs"
_AFTER_HEAD = frozenset(
    {"about", "above", "across", "after", "against", "along", "among", "around", "at", "behind", "below", "beneath"}
    | {"beside", "between", "beyond", "by", "carrying", "down", "during", "for", "from", "holding", "in", "inside"}
    | {"into", "like", "near", "next", "of", "off", "on", "onto", "out", "outside", "over", "past", "riding", "that"}
    | {"through", "to", "toward", "towards", "under", "up", "upon", "wearing", "which", "who", "whose", "with"}
    | {"within", "without"}
)


def clean_phrase(phrase: str) -> str:
    """The phrase in lower case and single spaces, without the full stops and question marks that would cut it in two.

    Raises InputError where no word is left.
    """
    cleaned = " ".join(re.sub(r"[.?]+", " ", phrase.lower()).split())
    if not _WORD.search(cleaned):
        raise InputError(f"{phrase[:40]!a} has no word to look for; name a thing, such as 'dog'")
    return cleaned


def word_spans(phrase: str) -> list[tuple[int, int]]:
    """First and last (exclusive) character of each word."""
    return [found.span() for found in _WORD.finditer(phrase)]


def head_index(words: Sequence[str], head: str = "") -> int:
    """Place of the head noun: of `head` (its last word) where the phrase has it, else of the last word before a
    preposition or a relative pronoun.
    """
    told = _WORD.findall(head.lower())
    if told and told[-1] in words:
        return list(words).index(told[-1])
    return next((place - 1 for place, word in enumerate(words) if place and word in _AFTER_HEAD), len(words) - 1)


def word_tokens(spans: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Tokens of each word, by the characters that they share; `offsets` are the tokenizer's, (0, 0) for special."""
    return [
        [token for token, (begin, end) in enumerate(offsets) if begin < last and end > first] for first, last in spans
    ]
