"""Scores of whole videos: unions, ignored frames, no-target sentences, means, and the controls beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from util import rle
from util.controls import answer_with_one_object, true_keys, with_other_sentences
from util.errors import InputError
from util.scoring import score_by_frame, score_video, summarise, true_masks
from util.types import ABSENT, IGNORE, PRESENT, Expression, ReferringVideo

SIZE, FRAMES = (24, 32), 4


class Frames:
    fps, size = 5.0, SIZE

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> np.ndarray:
        return np.zeros((*SIZE, 3), np.uint8)


class Squares:
    """Object n is a square of side 4 + 2n at column 8n; object 2 is absent in frame 0 and not labelled in frame 3."""

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        masks, states = np.zeros((len(object_ids), *SIZE), bool), np.full(len(object_ids), PRESENT, np.int8)
        for row, n in enumerate(object_ids):
            if n == 2 and index in (0, 3):
                states[row] = ABSENT if index == 0 else IGNORE
            else:
                masks[row, 2 : 6 + 2 * n, 8 * n : 8 * n + 4 + 2 * n] = True
        return masks, states


def video(*answers: tuple[int, ...] | None) -> ReferringVideo:
    expressions = tuple(Expression(str(n), f"sentence {n}", ids, "ab"[n % 2]) for n, ids in enumerate(answers))
    return ReferringVideo("v", Frames(), tuple(f"{n:05d}" for n in range(FRAMES)), expressions, Squares())


def truth_of(asked: ReferringVideo) -> list[list[rle.RLE]]:
    frames = [true_masks(asked, t)[0] for t in range(FRAMES)]
    return [[rle.encode(frame[e]) for frame in frames] for e in range(len(asked.expressions))]


BLANK = [rle.encode(np.zeros(SIZE, bool))] * FRAMES


def test_the_truth_scores_one() -> None:
    asked = video((0,), (1, 2), ())
    scores = score_video(truth_of(asked), asked)
    assert [score.j_and_f for score in scores] == [1, 1, 1]
    assert [score.frames for score in scores] == [4, 3, 4]  # frame 3 of object 2 is not labelled
    summary = summarise(scores)
    assert (summary["J&F"], summary["N-acc"], summary["T-acc"], summary["videos"]) == (1, 1, 1, 1)
    assert {name: means["expressions"] for name, means in summary["by_type"].items()} == {"a": 2, "b": 1}


def test_one_object_of_two_is_half_the_union() -> None:
    asked = video((0, 1))
    only_first = truth_of(video((0,)))
    (score,) = score_video(only_first, asked)
    assert score.j.mean == pytest.approx(16 / (16 + 36))


def test_empty_answers() -> None:
    asked = video((0,), (2,), ())
    scores = score_video([BLANK] * 3, asked)
    assert [score.j.mean for score in scores] == [0, pytest.approx(1 / 3), 1]  # object 2 is absent in one of three
    summary = summarise(scores)
    assert (summary["N-acc"], summary["T-acc"]) == (1, 0)


def test_no_target_answered_in_one_frame_keeps_its_empty_frames() -> None:
    asked = video(())
    (score,) = score_video([[truth_of(video((0,)))[0][0], *BLANK[1:]]], asked)
    assert score.j_and_f == 0.75
    summary = summarise([score])
    assert (summary["N-acc"], summary["T-acc"]) == (0, None)


def test_sentences_count_alike() -> None:
    asked = video((0,), (1,), (2,))
    means = [score.j_and_f for score in score_video([truth_of(asked)[0], BLANK, BLANK], asked)]
    assert summarise(score_video([truth_of(asked)[0], BLANK, BLANK], asked))["J&F"] == pytest.approx(np.mean(means))


def test_bad_input() -> None:
    with pytest.raises(InputError, match="no ground truth"):
        score_video([BLANK], video(None))
    with pytest.raises(InputError, match="expected masks of 2"):
        score_video([BLANK], video((0,), (1,)))
    with pytest.raises(InputError, match="size"):
        score_video([[rle.encode(np.zeros((5, 5)))] * FRAMES], video((0,)))
    with pytest.raises(InputError, match="nothing was scored"):
        summarise([])


def test_largest_object_answers_every_sentence() -> None:
    asked = video((0,), (1,), (2,))
    scores = score_video(answer_with_one_object(asked, "largest", 0), asked)
    # object 1 has 36 pixels in four frames, object 2 has 64 in two
    assert [score.j.mean for score in scores] == [0, 1, 0]


def test_random_object_is_drawn_for_each_sentence_and_repeats() -> None:
    asked = video(*[(0,), (1,)] * 20)
    first, again = (answer_with_one_object(asked, "random", 5) for _ in range(2))
    assert first == again
    right = [score.j.mean for score in score_video(first, asked)]
    assert 0.2 < np.mean(right) < 0.8
    assert first != answer_with_one_object(asked, "random", 6)


def test_true_keys_are_the_largest_masks() -> None:
    keys = true_keys(video((0,), (2,), ()))
    assert keys[0][0] == 0
    assert keys[1][0] == 1  # absent in frame 0
    assert keys[1][1].sum() == 64
    assert 2 not in keys


def test_other_sentences_name_other_objects() -> None:
    asked = with_other_sentences(video((0,), (0, 1), (1,), (), (2,)))
    assert [(e.object_ids, e.text) for e in asked.expressions] == [
        ((0,), "sentence 2"),
        ((0, 1), "sentence 4"),
        ((1,), "sentence 4"),
        ((2,), "sentence 0"),
    ]
    assert with_other_sentences(video((0,), (0,))).expressions == ()


def test_scores_by_frame_are_what_the_means_are_of() -> None:
    asked = video((0,), (1,))
    rows = score_by_frame([truth_of(asked)[0], BLANK], asked)
    assert [score for score, _ in rows] == score_video([truth_of(asked)[0], BLANK], asked)
    for score, series in rows:
        assert series.frames_n.tolist() == list(range(len(asked.frames)))
        assert score.j.mean == pytest.approx(series.j_n.mean()) and score.f.mean == pytest.approx(series.f_n.mean())
        both, predicted, true = series.pixels_n3.T
        assert (both <= np.minimum(predicted, true)).all() and score.volume.true == true.sum()
        assert score.presence.true == (true > 0).sum() and score.presence.predicted == (predicted > 0).sum()
