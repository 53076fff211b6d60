"""What the rows of the grid ask of one video, on a network whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from datasets.synthetic import SyntheticConfig
from models.inference import InferenceConfig
from scripts.evidence.exam import THINGS, Candidate, Exam, things_under
from scripts.evidence.rows import Row
from tests.fakes import SIZE, FakeSegmenter, Squares, moving
from util.types import Expression, ReferringVideo

CONFIG = InferenceConfig(short_side=64, max_side=96, window=3)


class Masks:
    """Thing n of `rows` has id n + 1."""

    def __init__(self, squares: Squares) -> None:
        self.squares = squares

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        masks = np.stack([self.squares.truth(index, n - 1) for n in object_ids])
        return masks, masks.any((1, 2)).astype(np.int8)


def candidate(network: FakeSegmenter | None = None, *, swap: bool = False) -> Candidate:
    """A red square, brightest in frame 2, absent in frame 4, and from frame 5 on a red twin far away.

    `swap`: the sentence means the twin, which the network never takes for its key.
    """
    red = moving(8, best=2, top=0)
    rows = [[*r, ("red", 44, 76, 0.4)] if t >= 5 else list(r) for t, r in enumerate(red)]
    rows[4] = []
    squares = Squares(rows)
    expression = Expression("0", "red", (2,) if swap else (1,), "motion")
    video = ReferringVideo("v", squares, tuple(map(str, range(8))), (expression,), Masks(squares))
    return Candidate(network or FakeSegmenter(), video, CONFIG)  # type: ignore[arg-type]


def score(of: Candidate, row: Row) -> tuple[int, list[float]]:
    (trace,) = of.traces(row)
    return trace.key, trace.series.j_n.round(1).tolist()


def test_rows_differ_in_where_tracking_begins() -> None:
    one = candidate()
    assert score(one, Row("", "t")) == (2, [1.0] * 8)
    assert score(one, Row("", "t", key="first")) == (0, [1.0] * 8)
    assert score(one, Row("", "t", key="best"))[0] == 0  # the earliest of equals
    assert score(one, Row("", "t", key="true")) == (0, [1.0] * 8)
    clip = one.traces(Row("", "t", {"mode": "clip"}))[0]
    assert clip.key == -1 and clip.key_j is None


def test_a_true_key_finds_what_the_network_does_not() -> None:
    one = candidate(swap=True)
    key, found = score(one, Row("", "t"))
    assert key == 2 and found == [0, 0, 0, 0, 1, 0, 0, 0]
    key, told = score(one, Row("", "t", key="true"))
    assert key == 5 and told[5:] == [1, 1, 1]


def test_perfect_tracking_follows_the_thing_under_the_found_key() -> None:
    row = Row("", "t", tracking="true")
    assert score(candidate(), row) == (2, [1.0] * 8)
    assert score(candidate(swap=True), row)[1] == [0, 0, 0, 0, 1, 0, 0, 0]
    never = Row("", "t", {"presence_below": 0.999}, tracking="true")
    assert score(candidate(), never) == (-1, [0, 0, 0, 0, 1, 0, 0, 0])


def test_a_video_is_read_once_for_all_rows_and_each_answer_made_once() -> None:
    network = FakeSegmenter()
    one = candidate(network)
    rows = [Row("", "t", settings, key) for settings in ({}, {"patience": 0}, {"frame_score": "stability"})
            for key in ("network", "first", "best", "true")]  # fmt: skip
    for row in rows:
        one.traces(row)
    assert sorted(t for window in network.encoded for t in window) == list(range(8))
    tracked = len(network.tracked)
    one.traces(Row("again", "t", tracking="true"))
    one.traces(rows[3])
    assert len(network.tracked) == tracked


def test_things_under_a_mask_are_the_covered_ones_or_the_best_match() -> None:
    masks = np.zeros((len(THINGS), *SIZE), bool)
    masks[0, :8, :8], masks[1, :8, 8:16], masks[2, 40:, 40:] = True, True, True
    both, none, a_corner = (np.zeros(SIZE, bool) for _ in range(3))
    both[:8, :14] = True
    a_corner[6:20, 6:9] = True
    assert things_under(both, masks) == (1, 2)
    assert things_under(none, masks) == ()
    assert things_under(a_corner, masks) == (1,)
    assert things_under(np.ones(SIZE, bool), masks) == (1, 2, 3)


def test_masks_are_held_for_every_thing_asked() -> None:
    held = candidate().truth
    masks, states = held.read(5, [2, 1, 7])
    assert states.tolist() == [1, 1, 0] and masks[0, 44:, 76:].any() and not masks[2].any()
    with pytest.raises(ValueError, match="not in range"):
        held.read(5, [9])


def test_what_is_asked_of_a_split() -> None:
    """The same videos in other words, with other sentences' words, in other orders; pairs are two for each."""
    world = SyntheticConfig(seed=1, videos=9, frames=24, height=32, width=56, held_out="exclude")
    exam = Exam(world, videos=3)
    usual, new, others, shuffled, backwards, pairs = (
        exam.videos_of("twins", asked)
        for asked in ("held-out", "new-words", "swapped", "shuffled", "reversed", "pairs")
    )
    assert [len(videos) for videos in (usual, new, others, shuffled, backwards, pairs)] == [3, 3, 3, 3, 3, 6]
    plain = {expression.text: expression.object_ids for video in usual for expression in video.expressions}
    assert not plain.keys() & {expression.text for video in new for expression in video.expressions}
    for one, other in zip(usual, others, strict=True):
        meant = {expression.text: expression.object_ids for expression in one.expressions}
        assert all(not set(meant[e.text]) & set(e.object_ids) for e in other.expressions)
        assert np.array_equal(one.frames[5], other.frames[5])
    assert any(video.expressions for video in others)
    for one, mixed, back in zip(usual, shuffled, backwards, strict=True):
        frames = [one.frames[t] for t in range(24)]
        assert all(np.array_equal(frames[t], back.frames[23 - t]) for t in range(24))
        assert any((frame == mixed.frames[0]).all() for frame in frames)
        assert any((frames[t] != mixed.frames[t]).any() for t in range(24))
    assert np.array_equal(pairs[0].frames[0], pairs[1].frames[0])
