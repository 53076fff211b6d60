"""The rule parser: what a sentence means by its words, and an answer for every text."""

from __future__ import annotations

import pytest

from datasets.synthetic import SyntheticVideos
from models.teacher.parser import RuleParser
from models.teacher.words import GENERIC, singular

NOUNS = {
    "a man in a blue coat": "man",
    "the dog that runs": "dog",
    "person wearing red": "person",
    "the walking man": "man",
    "the man walks to the right": "man",
    "a group of giraffes walking": "giraffe",
    "one of the zebras eating grass": "zebra",
    "a traffic light on the right of the street": "traffic light",
    "small black and white dog": "dog",
    "the second elephant from the left": "elephant",
    "the building moving": "building",
    "the girl's bike": "bike",
    "a person on the right, in green": "person",
    "le garçon": "garçon",
    "the square leaving and coming back": "square",
    "the one that is red and striped": "object",
    "people riding bikes": "person",
}


@pytest.mark.parametrize("text", NOUNS)
def test_head_noun(text: str) -> None:
    assert RuleParser().parse(text).noun == NOUNS[text]


@pytest.mark.parametrize(
    ("text", "cardinality", "k"),
    [
        ("the dog on the left", "one", None),
        ("two dogs playing", "k", 2),
        ("both of the dogs", "k", 2),
        ("3 sheep", "k", 3),
        ("a couple of horses", "k", 2),
        ("man and woman dancing", "k", 2),
        ("the dogs", "many", None),
        ("dogs running", "many", None),
        ("all the people on the left", "many", None),
        ("every red car", "many", None),
        ("a flock of birds", "many", None),
        ("one of the two dogs", "one", None),
        ("to the left of it", "unknown", None),
    ],
)
def test_cardinality(text: str, cardinality: str, k: int | None) -> None:
    parsed = RuleParser().parse(text)
    assert (parsed.cardinality, parsed.k) == (cardinality, k)


def test_what_else_is_told() -> None:
    parse = RuleParser().parse
    assert parse("the woman").nouns == ("woman", "person")
    assert parse("a man and a boy").hypernym == "person" and parse("a dog and a car").hypernym == "car"
    assert parse("the dog that is not moving").negated and not parse("the dog that moves").negated
    assert parse("the man doesn’t walk").negated
    assert parse("the bird flying away").motion and parse("the cat that stays still").motion
    assert not parse("a red swing").motion
    assert parse("the large grey cat").attributes == {"size": ("large",), "colour": ("grey",)}
    assert parse("the big gray cat").attributes == parse("the large grey cat").attributes
    assert parse("the thing that is red").attributes == {"colour": ("red",)}


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("left guy", ("left",)),
        ("the rightmost bird", ("right",)),
        ("the cat on the left", ("left",)),
        ("the cat on the left of the picture", ("left",)),
        ("the cat to the left of the dog", ()),
        ("the bird flying away to the left", ()),
        ("the second elephant from the left", ()),
    ],
)
def test_a_side_is_one_of_the_picture(text: str, side: tuple[str, ...]) -> None:
    assert RuleParser().parse(text).attributes.get("side", ()) == side


@pytest.mark.parametrize(
    "text", ["", "it", "...", "the", "not", "of the", "左边的狗", "🐕", "a " * 500, "and and", "0"]
)
def test_every_text_has_an_answer(text: str) -> None:
    parsed = RuleParser().parse(text)
    assert parsed.text == text and parsed.noun and parsed == RuleParser().parse(text)


def test_the_synthetic_language_is_understood() -> None:
    """The noun is the first one said, the number what stands before it."""
    shapes = {"circle", "square", "triangle", "star", "cross", "ring"}
    plural = {shape + ("es" if shape == "cross" else "s"): shape for shape in shapes}
    nouns = plural | {shape: shape for shape in shapes}
    nouns |= dict.fromkeys(("one", "ones", "object", "objects", "thing", "things"), "object")
    numbers = {"two": ("k", 2), "both": ("k", 2), "three": ("k", 3), "all": ("many", None), "every": ("many", None)}
    for text in SyntheticVideos.all_sentences():
        parsed = RuleParser().parse(text)
        said = text.split()
        place = next(n for n, word in enumerate(said) if word in nouns)
        number = next((numbers[word] for word in said[:place] if word in numbers), ("one", None))
        assert parsed.noun == nouns[said[place]], text
        assert (parsed.cardinality, parsed.k) == number, text


def test_plurals() -> None:
    words = {
        "dogs": "dog",
        "buses": "bus",
        "bus": "bus",
        "men": "man",
        "puppies": "puppy",
        "foxes": "fox",
        "grass": "grass",
    }
    assert {word: singular(word) for word in words} == words
    assert all(singular(word) == word for word in GENERIC)
