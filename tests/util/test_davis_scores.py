"""Ref-DAVIS17: swapped ids, void, objects that appear late, overlaps, and the means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from util.davis_scores import VOID, labels_from_probabilities, score_davis_video, summarise_davis
from util.errors import InputError
from util.types import Expression, ReferringVideo

SIZE, FRAMES = (40, 60), 5


class Labelled:
    fps, size = 24.0, SIZE

    def __init__(self, labels_THW: np.ndarray) -> None:
        self.labels = labels_THW

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.zeros((*SIZE, 3), np.uint8)

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        masks = self.labels[index] == np.array(object_ids)[:, None, None]
        return masks, masks.any((1, 2)).astype(np.int8)


def truth(late: bool = False) -> np.ndarray:
    labels = np.zeros((FRAMES, *SIZE), np.uint8)
    for t in range(FRAMES):
        labels[t, 5:15, 5 + t : 20 + t] = 1
        labels[t, 20:35, 30 - t : 50 - t] = 2
        labels[t, :3] = VOID
        if late and t > 1:
            labels[t, 25:35, 2:12] = 3
    return labels


def video(labels: np.ndarray, objects: int = 2) -> ReferringVideo:
    source = Labelled(labels)
    expressions = tuple(Expression(str(4 * (o - 1) + s), f"{o}", (o,)) for o in range(1, objects + 1) for s in range(4))
    return ReferringVideo("v", source, tuple(f"{t:05d}" for t in range(FRAMES)), expressions, source)


def test_swapped_referents_cost_nothing_only_as_published() -> None:
    labels = truth()
    right = np.where(labels == VOID, np.uint8(0), labels)
    swapped = np.array([0, 2, 1], np.uint8)[right]
    summary = summarise_davis(score_davis_video(lambda s, t: (swapped if s else right)[t], video(labels)))
    assert [summary["published"]["sets"][str(s)]["J&F"] for s in range(4)] == [1, 1, 1, 1]
    assert [summary["strict"]["sets"][str(s)]["J&F"] for s in range(4)] == [1, 0, 0, 0]
    assert summary["strict"]["J&F"] == 0.25  # the mean of the four


def test_void_pixels_do_not_count() -> None:
    labels = truth()
    drawn = labels.copy()
    drawn[:, :3] = 1
    assert all(score.j_and_f == 1 for score in score_davis_video(lambda s, t: drawn[t], video(labels)))


def test_objects_that_come_late_are_scored_strictly_and_not_as_published() -> None:
    drawn = truth(late=True) % VOID
    scores = score_davis_video(lambda s, t: drawn[t], video(truth(late=True), objects=3))
    assert {score.object for score in scores if score.matching == "published"} == {1, 2}
    assert {score.object for score in scores if score.matching == "strict"} == {1, 2, 3}


def test_missing_and_additional_ids() -> None:
    labels = truth()
    one = np.where(labels == 1, np.uint8(1), np.uint8(0))
    scores = score_davis_video(lambda s, t: one[t], video(labels))
    assert [score.j.mean for score in scores[:2]] == [1, 0]
    more = np.where(labels == 2, np.uint8(9), labels)
    published = [s.j.mean for s in score_davis_video(lambda s, t: more[t] % VOID, video(labels))[2:4]]
    assert published == [1, 1]
    with pytest.raises(InputError, match="at most 20"):
        score_davis_video(lambda s, t: np.full(SIZE, 21, np.uint8), video(labels))
    with pytest.raises(InputError, match=r"frame 00000.*\(3, 4\)"):
        score_davis_video(lambda s, t: np.zeros((3, 4), np.uint8), video(labels))


def test_a_pixel_goes_to_its_most_probable_object() -> None:
    """Sentences 0 to 3 ask for object 1, 4 to 7 for object 2."""

    def probabilities(frame: int, places: Sequence[int]) -> np.ndarray:
        assert (frame, list(places)) == (3, [2, 6])
        found = np.full((2, *SIZE), 0.49, np.float32)  # no object's, though above the background's 0.1
        found[0, :20], found[1, :10], found[1, 10:15], found[1, 25:30] = 0.6, 0.9, 0.55, 0.5
        return found

    drawn = labels_from_probabilities(probabilities, video(truth()))(2, 3)
    rows = [2] * 10 + [1] * 10 + [0] * 5 + [2] * 5 + [0] * 10
    assert np.array_equal(drawn, np.array(rows, np.uint8)[:, None].repeat(SIZE[1], 1))
