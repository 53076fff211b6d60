"""The error ladder: at which step of the teacher each sentence was lost. The first rung that holds is its only one.

    not detected    an object that is meant shows in key frames, and no box there has an IoU of one half with it
    lost            no track has a volume IoU of one half with it
    abstained       the sentence has no masklet; why is counted beside it
    wrong match     its masklet's objects are not those that are meant: a set-F1 below 1
    poor mask       they are, with a J below 0.7
    correct
A sentence that means nothing in its video is a "false positive" where it has a masklet, and else "rightly none".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.teacher.detect.boxes import box_iou
from models.teacher.match.frames import boxes_of
from models.teacher.overlap import Volumes, set_f1

RUNGS = (
    "not detected", "lost", "abstained", "wrong match", "poor mask", "correct", "false positive", "rightly none"
)  # fmt: skip
SAME = 0.5  # IoU from which a box, a track or a masklet is of an object
GOOD = 0.7  # J of a correct masklet


@dataclass(frozen=True)
class Objects:
    """The true objects of a video beside what was found, in the order of `ids`.

    missed_N  shows in key frames, in none of which a box is on it; lost_N  no track is on it
    told_NM   volume IoU with the masklets' objects, in the order of `told`
    """

    ids: tuple[int, ...]
    told: tuple[int, ...]
    missed_N: np.ndarray
    lost_N: np.ndarray
    told_NM: np.ndarray


class ObjectTally:
    """Makes `Objects`, frame by frame. Without `tracks` nothing counts as missed or lost."""

    def __init__(self, ids: Sequence[int], told: Sequence[int], tracks: int | None) -> None:
        self.ids, self.told = tuple(ids), tuple(told)
        self._told = Volumes(len(ids), len(told))
        self._tracks = None if tracks is None else Volumes(len(ids), tracks)
        self._shown_N, self._boxed_N = np.zeros(len(ids), bool), np.zeros(len(ids), bool)

    def add(
        self,
        masks_NHW: np.ndarray,
        known_N: np.ndarray,
        told: Sequence[np.ndarray],
        tracks: Sequence[np.ndarray],
        boxes_M4: np.ndarray | None,
    ) -> None:
        """One frame: the true masks and where they are known, the masklets', the tracks', and a key frame's boxes."""
        self._told.add(list(masks_NHW), told, known_N)
        if self._tracks is not None:
            self._tracks.add(list(masks_NHW), tracks, known_N)
        if boxes_M4 is not None and len(masks_NHW):
            shown_N = known_N & masks_NHW.any((1, 2))
            self._shown_N |= shown_N
            found_N4 = np.nan_to_num(boxes_of(masks_NHW))
            self._boxed_N |= shown_N & (box_iou(found_N4, boxes_M4).max(-1, initial=0) >= SAME)

    def result(self) -> Objects:
        missed_N = self._shown_N & ~self._boxed_N
        lost_N = np.zeros(len(self.ids), bool)
        if self._tracks is not None:
            lost_N = self._tracks.ious().max(-1, initial=0) < SAME
        return Objects(self.ids, self.told, missed_N, lost_N, self._told.ious())


@dataclass(frozen=True)
class Placed:
    """Where a sentence stands: its rung, and the F1 of its set of objects."""

    rung: str
    set_f1: float


def place(objects: Objects, meant: Sequence[int], told: Sequence[int], j: float) -> Placed:
    """The rung of a sentence that means the objects `meant`, and whose masklet has the objects `told`; `j` is its J."""
    rows = [objects.ids.index(i) for i in meant]
    columns = [objects.told.index(i) for i in told]
    f1 = set_f1(objects.told_NM[np.ix_(rows, columns)], SAME)
    if not meant:
        return Placed("false positive" if told else "rightly none", f1)
    rungs: Mapping[str, bool] = {
        "not detected": bool(objects.missed_N[rows].any()),
        "lost": bool(objects.lost_N[rows].any()),
        "abstained": not told,
        "wrong match": f1 < 1,
        "poor mask": j < GOOD,
    }
    return Placed(next((name for name, holds in rungs.items() if holds), "correct"), f1)
