"""Expected scores of guesses: equal to scoring each guess and averaging, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from util import rle
from util.expected import expected_scores
from util.scoring import score_video
from util.types import ABSENT, PRESENT, Expression, ReferringVideo

SIZE, FRAMES = (24, 40), 3


class Frames:
    fps, size = 5.0, SIZE

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> np.ndarray:
        return np.zeros((*SIZE, 3), np.uint8)


class Squares:
    """Objects 1 to 3 are squares of side 6, 12 columns apart; object 3 is gone in the last frame."""

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        masks = np.zeros((len(object_ids), *SIZE), bool)
        for mask, n in zip(masks, object_ids, strict=True):
            if not (n == 3 and index == 2):
                mask[4 : 10 + index, 12 * (n - 1) + 2 : 12 * (n - 1) + 8] = True
        return masks, np.where(masks.any(axis=(1, 2)), PRESENT, ABSENT).astype(np.int8)


def video(*answers: tuple[int, ...]) -> ReferringVideo:
    expressions = tuple(Expression(str(n), f"sentence {n}", ids) for n, ids in enumerate(answers))
    return ReferringVideo("v", Frames(), tuple("abc"), expressions, Squares())


def test_right_guesses_score_one_and_wrong_ones_the_frames_without_either() -> None:
    asked = video((1,), (3,), ())
    answers = [[[(1,)]] * 3, [[(2,)]] * 3, [[()]] * 3]
    right, wrong, empty = expected_scores(asked, {"x": answers})["x"]
    assert (right.j, right.f, right.lucky) == (1, 1, 1)
    assert wrong.j == 0
    assert (empty.j, empty.f) == (1, 1)
    (missed,) = expected_scores(video((3,)), {"x": [[[()]] * 3]})["x"]
    assert missed.j_and_f == pytest.approx(1 / 3)  # an empty answer is right where it is gone


def test_two_equal_guesses_are_worth_half_and_luck_all() -> None:
    (score,) = expected_scores(video((1,)), {"x": [[[(1,), (2,)]] * 3]})["x"]
    assert (score.j, score.f, score.lucky) == (0.5, 0.5, 1)


def test_both_at_once_have_half_the_union_and_two_thirds_f() -> None:
    (score,) = expected_scores(video((1,)), {"x": [[[(1, 2)]] * 3]})["x"]
    assert score.j == 0.5
    assert score.f == pytest.approx(2 / 3)


def test_expectation_is_the_mean_over_all_ways_of_guessing() -> None:
    """Every combination of one guess a frame, scored as masks of a program's answer are."""
    asked = video((1, 2))
    guesses: list[list[tuple[int, ...]]] = [[(1,), (2,)], [(3,), (1, 2), ()], [(2, 3), (1,)]]
    scores = []
    for chosen in product(*guesses):
        masks = [Squares().read(t, chosen[t])[0] for t in range(FRAMES)]
        answer = [rle.encode(frame.any(axis=0) if len(frame) else np.zeros(SIZE, bool)) for frame in masks]
        scores.append(score_video([answer], asked)[0])
    (found,) = expected_scores(asked, {"x": [guesses]})["x"]
    assert found.j == pytest.approx(np.mean([score.j.mean for score in scores]), abs=1e-12)
    assert found.f == pytest.approx(np.mean([score.f.mean for score in scores]), abs=1e-12)
    assert found.lucky == pytest.approx(max(score.j_and_f for score in scores), abs=1e-12)


def test_answers_do_not_depend_on_what_is_asked_beside_them() -> None:
    asked = video((1,), (2, 3))
    one, two = [[[(1,), (3,)]] * 3, [[(2,)]] * 3], [[[()]] * 3, [[(1, 2, 3)]] * 3]
    together = expected_scores(asked, {"one": one, "two": two})
    assert together["one"] == expected_scores(asked, {"one": one})["one"]
    assert together["two"] == expected_scores(asked, {"two": two})["two"]
