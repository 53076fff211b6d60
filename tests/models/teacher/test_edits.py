"""Sentences with a word swapped: the right word, in the right form, and never one that may still be true."""

from __future__ import annotations

import pytest

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from models.teacher.edits import MOST, edits
from models.teacher.parser import RuleParser

EDITED = {
    "the red car": ("the blue car",),
    "The Red car and the blue one": ("The green car and the blue one", "The Red car and the yellow one"),
    "the dog on the left": ("the dog on the right",),
    "the leftmost cat walking": ("the rightmost cat walking", "the leftmost cat standing"),
    "the man that left": (),
    "the man who runs to the right": ("the man who stands to the right", "the man who runs to the left"),
    "a bird that rose": ("a bird that sank",),
    "the balloons rising": ("the balloons sinking",),
    "people crossing the road": ("people leaving the road",),
    "she goes home": ("she comes home",),
    "the man approaches": ("the man leaves",),
    "the car that is not red": (),
    "an orange": (),
    "the dog": (),
    "...": (),
}


@pytest.mark.parametrize("text", EDITED)
def test_one_word_is_swapped(text: str) -> None:
    assert tuple(edited.text for edited in edits(RuleParser().parse(text), motion=True)) == EDITED[text]


def test_verbs_are_left_to_who_sees_movement() -> None:
    parsed = RuleParser().parse("the leftmost cat walking")
    assert [edited.text for edited in edits(parsed, motion=False)] == ["the rightmost cat walking"]


def test_only_the_text_differs_and_by_one_word() -> None:
    parser, seen, videos = RuleParser(), 0, SyntheticVideos(SyntheticConfig(videos=8, frames=4))
    for number in range(len(videos)):
        for expression in videos[number].expressions:
            parsed = parser.parse(expression.text)
            for edited in edits(parsed, motion=True):
                words = zip(edited.text.split(), parsed.text.split(), strict=True)
                assert sum(one != other for one, other in words) == 1
                assert (edited.noun, edited.cardinality, edited.k) == (parsed.noun, parsed.cardinality, parsed.k)
                seen += 1
    assert seen > 10
    assert len(edits(parser.parse("red, blue, green, black and white things on the left"), motion=True)) == MOST
