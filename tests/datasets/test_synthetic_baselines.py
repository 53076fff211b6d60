"""What each baseline may guess, exactly, in a world made by hand; and that guessing knows no more than it should."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic_cases import CONFIG, LEFT, answered, case_of, thing, world

from datasets.synthetic.baselines import BASELINES, drawn, guesses
from datasets.synthetic.paths import profile
from datasets.synthetic.program import ALL, Look, Moves, Not, Placed, Program, Relation
from util.expected import expected_scores
from util.scoring import score_video, summarise

CIRCLE, SQUARE, STAR = (Look("shape", shape) for shape in ("circle", "square", "star"))
FRAMES = CONFIG.frames


def choices(program: Program, baseline, *others) -> list:
    """Answers in every frame; each a list of equally likely ones."""
    (frames,) = guesses(answered(world(*others), {program: ()}), baseline)
    return [list(answers) for answers in frames]


@pytest.mark.parametrize(
    ("program", "some", "all_"),
    [
        (Program((SQUARE,)), [(3,)], [(3,)]),
        (Program((CIRCLE, Moves("left"))), [(1,), (2,)], [(1, 2)]),
        (Program((Moves("left"),)), [(1,), (2,), (3,)], [(1, 2, 3)]),
        (Program((CIRCLE, Not(Moves("left")))), [(1,), (2,)], [(1, 2)]),
        (Program((Not(Look("colour", "red")),)), [(3,)], [(3,)]),
        (Program((CIRCLE,), number=2), [(1, 2)], [(1, 2)]),
        (Program((CIRCLE,), number=ALL), [(1, 2)], [(1, 2)]),
        (Program((Moves("moving"),), number=2), [(1, 2), (1, 3), (2, 3)], [(1, 2, 3)]),
        (Program((Moves("moving"),), number=ALL), [(1, 2, 3)], [(1, 2, 3)]),
        (Program((STAR,)), [()], [()]),
        (Program((SQUARE, Moves("left"))), [(3,)], [(3,)]),  # nothing is meant, but one frame does not tell
        # what is compared is not the thing itself, where it is known what that is
        (Program((Relation("faster", Program((SQUARE,))),)), [(1,), (2,)], [(1, 2)]),
        (Program((Relation("faster", Program((CIRCLE, Moves("left")))),)), [(1,), (2,), (3,)], [(1, 2, 3)]),
    ],
)
def test_what_fits_without_time_is_guessed(program: Program, some: list, all_: list) -> None:
    for kind in ("static-track", "single-frame"):
        assert choices(program, kind) == [some] * FRAMES
        assert choices(program, f"{kind}-all") == [all_] * FRAMES


def test_a_place_is_read_in_the_frame_itself() -> None:
    """Circle 2 is left of the square at first and right of it at last."""
    leftmost = choices(Program((CIRCLE, Placed("start", "left"))), "single-frame")
    assert (leftmost[0], leftmost[-1]) == ([(2,)], [(1,)])
    assert choices(Program((CIRCLE, Placed("start", "left"))), "static-track") == [[(1,), (2,)]] * FRAMES
    low = thing(4, "star", "green", 0.8, 0.85, profile((1, 0, 0)))
    below = Program((Look("colour", "green"), Relation("below", Program((SQUARE,)))))
    assert choices(below, "single-frame", low) == [[(4,)]] * FRAMES
    assert choices(below, "static-track", low) == [[(4,)]] * FRAMES


def test_what_is_not_seen_in_a_frame_is_not_guessed_there() -> None:
    """A green star enters in the middle of the video."""
    late = thing(4, "star", "green", -0.3, 0.5, profile((0.5, 0, 0), (0.8, 0.6, 0), (1, 0.6, 0)))
    star = Program((STAR,))
    frames = choices(star, "single-frame", late)
    assert frames[0] == [()] and frames[-1] == [(4,)]
    assert choices(star, "static-track", late) == [[(4,)]] * FRAMES
    scores = expected_scores(case_of(world(late), star).video, {
        name: guesses(case_of(world(late), star), name) for name in ("single-frame", "static-track")
    })  # fmt: skip
    assert scores["single-frame"][0].j_and_f == scores["static-track"][0].j_and_f == 1


def test_largest_and_random_read_nothing() -> None:
    big = replace(thing(4, "square", "green", 0.8, 0.5, LEFT), radius=0.2)
    assert choices(Program((STAR,)), "largest", big) == [[(4,)]] * FRAMES
    assert choices(Program((STAR,)), "random", big) == [[(1,), (2,), (3,), (4,)]] * FRAMES


def test_scores_by_hand() -> None:
    """Between two circles half of everything is right; both at once are half the union."""
    case = case_of(world(), Program((CIRCLE, Moves("left"))), Program((SQUARE,)), Program((SQUARE, Moves("left"))))
    scores = expected_scores(case.video, {name: guesses(case, name) for name in BASELINES})
    twin, square, missing = scores["single-frame"]
    assert (twin.j, twin.f, twin.lucky) == (0.5, 0.5, 1)
    assert (square.j, square.f) == (1, 1)
    assert (missing.j, missing.f, missing.lucky) == (0, 0, 0)
    assert [score.j for score in scores["random"]] == pytest.approx([1 / 3, 1 / 3, 0])
    both = scores["single-frame-all"][0]
    assert both.j == pytest.approx(0.5, abs=0.01) and both.f == pytest.approx(2 / 3, abs=0.02)
    assert [score.j_and_f for score in scores["same-answer"]] == [1, 1, 1]  # without a control it is the truth


def test_drawn_guesses_have_the_expected_score() -> None:
    program = Program((CIRCLE, Moves("left")))
    programs = [replace(program, claims=(*program.claims, *[CIRCLE] * n)) for n in range(40)]  # said 40 times over
    case = case_of(world(), *programs)
    for baseline in ("single-frame", "static-track", "random"):
        masks = drawn(case, baseline, seed=3)
        assert masks == drawn(case, baseline, seed=3)
        scores = score_video(masks, case.video)
        expected = expected_scores(case.video, {baseline: guesses(case, baseline)})[baseline][0]
        assert summarise(scores)["J"] == pytest.approx(expected.j, abs=0.2)
        split = {score.j.mean for score in scores} - {0.0, 1.0}
        assert bool(split) == (baseline == "single-frame")  # who answers frame by frame changes its mind
