"""A world made by hand, small enough to know every answer: two red circles that go opposite ways and a blue square."""

from __future__ import annotations

from collections.abc import Mapping

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.synthetic.controls import Case
from datasets.synthetic.observed import observe
from datasets.synthetic.paths import Route, profile
from datasets.synthetic.program import Program
from datasets.synthetic.sentences import Sentence
from datasets.synthetic.verifier import Verifier
from datasets.synthetic.world import Camera, Thing, World

CONFIG = SyntheticConfig(videos=1, frames=7, height=48, width=80)
LEFT, RIGHT, STILL = profile((1, -0.55, 0)), profile((1, 0.55, 0)), profile((1, 0, 0))


def thing(id_: int, shape: str, colour: str, x: float, y: float, way, instead=None) -> Thing:
    return Thing(
        id=id_, shape=shape, colour=colour, texture="plain", radius=0.12, angle=0.0, spin=0.0, motion="",
        path=Route((x, y), way), instead=None if instead is None else Route((x, y), instead),
    )  # fmt: skip


def world(*others: Thing) -> World:
    """1 goes left at the top, 2 right at the bottom, 3 stays between them; the counterpart turns 1 and 2 round."""
    circles = (
        thing(1, "circle", "red", 1.0, 0.2, LEFT, RIGHT),
        thing(2, "circle", "red", 0.66, 0.8, RIGHT, LEFT),
    )
    still = Camera(pan=(0.0, 0.0), sway=0.0, phase=0.0)
    return World(aspect=80 / 48, things=(*circles, thing(3, "square", "blue", 0.8, 0.5, STILL), *others), camera=still)


def case_of(made: World, *programs: Program) -> Case:
    """The world filmed, and asked the programs, none of which is arguable in it."""
    verifier = Verifier(observe(made))
    answers = [verifier.referents(program) for program in programs]
    assert None not in answers, answers
    return answered(made, {program: ids for program, ids in zip(programs, answers, strict=True) if ids is not None})


def answered(made: World, answers: Mapping[Program, tuple[int, ...]]) -> Case:
    """The world filmed, with these answers to programs, right or not."""
    sentences = tuple(
        Sentence(f"sentence {n}", program.family, program, ids) for n, (program, ids) in enumerate(answers.items())
    )
    video = SyntheticVideos(CONFIG).filmed(0, made, sentences)
    return Case(video, observe(made), sentences, tuple((ids,) for ids in answers.values()))
