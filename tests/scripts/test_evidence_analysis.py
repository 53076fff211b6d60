"""Where scores are counted: bins, drift, re-entries and sizes on cases whose numbers are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from scripts.evidence import analysis
from scripts.evidence.analysis import (
    Trace,
    analyse,
    by_distance,
    by_return,
    by_size,
    drift,
    frames_since_return,
    merged,
)
from util.errors import InputError
from util.metrics import statistics
from util.scoring import ExpressionScore, FrameSeries, Overlap


def trace(
    jf: Sequence[float], there: Sequence[int] | None = None, *, key: int = -1, area: float = 0.1, type_: str = "motion"
) -> Trace:
    """A sentence with J = F = `jf` in each frame; `there` says in which frames the target is seen (default: all)."""
    scores = np.array(jf, float)
    true = np.array(there if there is not None else [1] * len(jf)) * 10
    predicted = np.where(scores > 0, 10, 0)
    pixels = np.stack((np.minimum(true, predicted), predicted, true), 1)
    series = FrameSeries(np.arange(len(jf)), scores, scores, pixels)
    found = statistics(scores)
    seen = Overlap(*(int((part > 0).sum()) for part in pixels.T))
    score = ExpressionScore(
        "v", "e", "text", type_, len(jf), found, found, bool(true.any()), not predicted.any(), True,
        area if true.any() else 0.0, seen, Overlap(1, 1, 1),
    )  # fmt: skip
    return Trace(score, series, key)


def test_bins_are_named_by_their_frames() -> None:
    assert analysis.labels((0, 1, 3, 6)) == ["0", "1-2", "3-5", "6+"]
    assert len(analysis.labels(analysis.DISTANCE)) == len(analysis.DISTANCE)


def test_distance_is_counted_both_ways_from_the_key_where_the_target_is_seen() -> None:
    one = trace([0.5, 1.0, 0.9, 0.7, 0.1], [1, 1, 1, 1, 0], key=1)
    other = trace([0.2, 0.4], key=0)
    unkeyed = trace([0.3, 0.3], key=-1)
    cells = by_distance([one, other, unkeyed])
    assert cells[0] == [2, pytest.approx((1.0 + 0.2) / 2)]
    assert cells[1] == [4, pytest.approx((0.5 + 0.9 + 0.7 + 0.4) / 4)]  # 1 or 2 frames away
    assert cells[2:] == [[0, None]] * (len(cells) - 2)


def test_first_frames_of_bins_belong_to_them() -> None:
    cells = by_distance([trace(np.arange(26) / 100, key=0)])
    starts = [*analysis.DISTANCE, 26]
    for place, cell in enumerate(cells):
        inside = np.arange(starts[place], starts[place + 1])
        assert cell == [len(inside), pytest.approx(inside.mean() / 100)]


def test_drift_is_the_slope_within_sentences_and_blind_to_their_height() -> None:
    frames = np.arange(9)
    falling = [trace(1 - 0.01 * frames, key=0), trace(0.5 - 0.01 * frames[::-1], key=8)]
    spread, change = drift(falling)
    assert change / spread == pytest.approx(-0.01)
    # one good sentence with its key near, a bad one with its key far: between them no drift
    flat = [trace([0.0, 0.9, 0.9, 0.9], key=0), trace([0.0] + [0.2] * 8, key=0)]
    assert drift(flat)[1] == pytest.approx(0)
    assert drift([trace([0.5], key=0), trace([0.5, 0.5])]) == [0, 0]


def test_the_key_frame_itself_does_not_drift() -> None:
    """A given mask is exact, which no tracked one is."""
    assert drift([trace([1.0, 0.5, 0.5, 0.5], key=0)])[1] == 0


@pytest.mark.parametrize(
    ("there", "since"),
    [
        ([1, 1, 1], [-1, -1, -1]),
        ([0, 0, 1, 1], [-1, -1, -1, -1]),  # late is no re-entry
        ([1, 0, 1, 1, 1], [-1, -1, 0, 1, 2]),
        ([0, 1, 0, 1, 0, 0, 1, 1], [-1, -1, -1, 0, -1, -1, 0, 1]),
        ([0, 0], [-1, -1]),
    ],
)
def test_time_since_reentry_begins_anew_at_each(there: list[int], since: list[int]) -> None:
    assert frames_since_return(np.array(there, bool)).tolist() == since


def test_frames_after_reentry_are_binned() -> None:
    cells = by_return([trace([1, 0, 0.2, 0.4, 0.6, 0.8], [1, 0, 1, 1, 1, 1]), trace([1, 1], [0, 1])])
    assert cells[:3] == [[1, pytest.approx(0.2)], [1, pytest.approx(0.4)], [2, pytest.approx(0.7)]]
    assert cells[3:] == [[0, None]] * (len(cells) - 3)


def test_sizes_are_thirds_of_the_sentences_whose_target_is_seen() -> None:
    traces = [trace([score], area=area) for score, area in ((0.1, 0.3), (0.2, 0.01), (0.4, 0.02), (0.6, 0.5),
                                                            (0.8, 0.04), (1.0, 0.05))]  # fmt: skip
    found = by_size([*traces, trace([1.0], [0])])
    assert found["thirds"] == [[2, pytest.approx(0.3)], [2, pytest.approx(0.9)], [2, pytest.approx(0.35)]]
    assert 0.02 < found["bounds"][0] < 0.04 < 0.05 < found["bounds"][1] < 0.3
    assert by_size([trace([1.0], [0])])["thirds"] == [[0, None]] * 3


def test_keys_are_judged_by_their_own_frame() -> None:
    right, wrong = trace([0.2, 0.9], key=1), trace([0.2, 0.9], key=0)
    away, none = trace([0.9, 0.9], [1, 0], key=1), trace([0, 0], key=-1)
    nothing = trace([1, 1], [0, 0], key=0)  # a no-target sentence has no key to judge
    assert (right.key_j, wrong.key_j, away.key_j, none.key_j) == (0.9, 0.2, None, None)
    quality = analysis.key_quality([right, wrong, away, none, nothing])
    assert quality == {"given": 3 / 4, "J": pytest.approx(1.1 / 3), "right": pytest.approx(1 / 3)}


def test_everything_together_is_json_of_few_digits() -> None:
    found = analyse([trace([1 / 3, 1.0], key=1), trace([0.0, 0.0], key=-1, type_="order"), trace([1, 1], [0, 0])])
    assert found["J&F"] == pytest.approx((2 / 3 + 0 + 1) / 3, abs=1e-5)
    assert found["families"] == {"motion": [2, pytest.approx(5 / 6, abs=1e-5)], "order": [1, 0.0]}
    assert found["distance"]["right key"][1] == [1, 0.33333]
    assert found["N-acc"] == 0.0 and found["T-acc"] == 0.5 and found["sentences"] == 3
    with pytest.raises(InputError):
        analyse([])


def test_cells_merge_as_if_they_had_been_one() -> None:
    parts = [[trace([0.1, 0.2], key=0)], [trace([0.4, 0.5, 0.9], key=0)], []]
    together = by_distance([one for part in parts for one in part])
    apart = [by_distance(part) for part in parts]
    for place, cell in enumerate(together):
        count, mean = merged(cells[place] for cells in apart)
        assert [count, mean] == [cell[0], pytest.approx(cell[1]) if cell[0] else None]
