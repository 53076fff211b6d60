"""Programs: JSON and back, families, what needs time; phrasings: whole sentences, some of them held out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.synthetic.phrases import is_held_out, phrasings
from datasets.synthetic.program import (
    ALL,
    FAMILIES,
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
from datasets.synthetic.wording import GROUPS, HELD_OUT
from util.errors import InputError

CIRCLE, RED, STAR = Look("shape", "circle"), Look("colour", "red"), Look("shape", "star")
KINDS = {
    Program((CIRCLE,)): "category",
    Program((RED,)): "appearance",
    Program((RED, CIRCLE)): "appearance",
    Program((CIRCLE, Moves("left"))): "motion",
    Program((CIRCLE, Most("fastest"))): "motion",
    Program((CIRCLE, Placed("end", "left"))): "relation",
    Program((CIRCLE, Relation("left of", Program((STAR,))))): "relation",
    Program((CIRCLE, Relation("follows", Program((STAR, Moves("stopping")))))): "relation",
    Program((CIRCLE, Order("enters", -1))): "order",
    Program((CIRCLE, Moves("left"), Timing("leaves", "before", Program((STAR,)), "stops"))): "order",
    Program((CIRCLE, Mutual("cross")), 2): "count",
    Program((RED,), 3): "count",
    Program((CIRCLE,), ALL): "count",
    Program((CIRCLE, Not(RED))): "negation",
    Program((CIRCLE, Not(Moves("moving")))): "negation",
}


@pytest.fixture(scope="module")
def said():
    """Sentences of every split."""
    videos = SyntheticVideos(SyntheticConfig(seed=5, split="mixed"))
    return [sentence for number in range(60) for sentence in videos.program(number)[1]]


@pytest.mark.parametrize(("program", "family"), KINDS.items(), ids=lambda value: str(value)[:60])
def test_a_program_has_a_family_and_comes_back_from_json(program: Program, family: str) -> None:
    assert program.family == family and family in FAMILIES
    assert Program.from_json(json.loads(json.dumps(program.to_json()))) == program


def test_drawn_programs_come_back_from_json(said) -> None:
    for sentence in said:
        assert Program.from_json(json.loads(json.dumps(sentence.program.to_json()))) == sentence.program


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"claims": [{"kind": "wish"}], "number": 1},
        {"claims": [{"kind": "look", "attribute": "shape"}], "number": 1},
        {"claims": [{"kind": "relation", "relation": "left of", "other": 3}], "number": 1},
        {"claims": 3, "number": 1},
    ],
)
def test_what_is_no_program_is_refused(value) -> None:
    with pytest.raises(InputError, match="no program"):
        Program.from_json(value)


def test_time_matters_where_one_frame_cannot_answer() -> None:
    left_of = Relation("left of", Program((STAR,)))
    assert not Program((CIRCLE, RED, Not(RED), left_of)).times_matter
    for claim in (
        Moves("left"),
        Not(Moves("left")),
        Most("slowest"),
        Placed("start", "left"),
        Order("stops", 1),
        Relation("crosses", Program((STAR,))),
        Relation("left of", Program((STAR, Moves("left")))),
        Mutual("cross"),
    ):
        program = Program((CIRCLE, left_of, claim))
        assert program.times_matter
        assert program.timeless() == Program((CIRCLE, left_of)) and not program.timeless().times_matter


def test_phrasings_are_whole_sentences_and_different(said) -> None:
    for program in (*KINDS, *(sentence.program for sentence in said)):
        phrases = phrasings(program)
        texts = [phrase.text for phrase in phrases]
        assert len(set(texts)) == len(texts) >= 1
        for text in texts:
            assert text.replace(" ", "").isalpha() and text == text.lower() and "  " not in text
            assert text.split()[0] in ("the", "all", "every", "both")


def test_several_ways_to_say_every_kind() -> None:
    for program in KINDS:
        assert len(phrasings(program)) >= (1 if program == Program((CIRCLE,)) else 2), program


def test_one_and_several_agree_with_their_verbs() -> None:
    def texts(*claims, number):
        return {phrase.text for phrase in phrasings(Program(claims, number))}

    assert "the circle that stops" in texts(CIRCLE, Moves("stopping"), number=1)
    assert {"both circles that stop", "the two circles that stop"} <= texts(CIRCLE, Moves("stopping"), number=2)
    assert {"all the circles that stop", "every circle that stops"} <= texts(CIRCLE, Moves("stopping"), number=ALL)
    assert "the three ones that are not crosses" in texts(Not(Look("shape", "cross")), number=3)
    assert "the circle that is not a cross" in texts(CIRCLE, Not(Look("shape", "cross")), number=1)


def test_some_phrasings_and_combinations_are_held_out_and_all_words_are_taught() -> None:
    assert 20 <= len(HELD_OUT) <= 50
    combinations = [
        Program((Look("colour", colour), Look("shape", shape)))
        for colour in ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
        for shape in ("circle", "square", "triangle", "star", "cross", "ring")
    ]
    held = [program for program in combinations if is_held_out(program)]
    assert 3 <= len(held) <= 12
    nested = Program((STAR, Relation("above", held[0])))
    assert is_held_out(nested) and not is_held_out(Program(held[0].claims[:1]))
    # What is held out is a way to say it, never a word.
    forms = {form for group in GROUPS for form in group}
    taught = {word for form in forms - HELD_OUT for word in form.replace("|", " ").split()}
    assert forms > HELD_OUT and all(set(form.replace("|", " ").split()) <= taught for form in HELD_OUT)
    assert len({claim for program in combinations if program not in held for claim in program.claims}) == 14


@pytest.mark.parametrize("split", ["easy", "twins", "late"])
def test_training_can_be_kept_from_what_the_test_of_language_asks(split) -> None:
    config = SyntheticConfig(seed=6, split=split)
    for held_out in ("exclude", "only"):
        videos = SyntheticVideos(replace(config, held_out=held_out))
        spoken = [sentence for number in range(40) for sentence in videos.program(number)[1]]
        assert len(spoken) > (200 if held_out == "exclude" else 80)
        for sentence in spoken:
            held = {phrase.text: phrase.held_out for phrase in phrasings(sentence.program)}[sentence.text]
            assert (held or is_held_out(sentence.program)) == (held_out == "only"), sentence


def test_the_language_covers_what_is_said(said) -> None:
    language = list(SyntheticVideos.all_sentences())
    assert len(set(language)) == len(language) < 60_000
    counts = Counter(word for text in language for word in text.split())
    assert {word for sentence in said for word in sentence.text.split()} <= set(counts)
    assert len(counts) < 200 and min(counts.values()) >= 4


def test_another_process_draws_the_same_sentences() -> None:
    code = (
        "from datasets.synthetic import SyntheticConfig, SyntheticVideos\n"
        "videos = SyntheticVideos(SyntheticConfig(seed=8, split='mixed'))\n"
        "print([one.text for number in range(12) for one in videos.program(number)[1]])"
    )
    root = Path(__file__).resolve().parents[2]
    texts = {
        subprocess.run([sys.executable, "-c", code], cwd=root, env={"PYTHONHASHSEED": seed}, capture_output=True).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1 and len(texts.pop()) > 1000
