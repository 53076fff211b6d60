"""A detector that reports the true boxes, but for the faults it was told to make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.teacher.interfaces import Detection, ModelInfo
from util.types import Box

from .faults import DETECTED, Faults
from .truth import TrueVideo, Truth


class ScriptedDetector:
    """`calls` counts the images it was shown. Objects answer to what sentences call them, false boxes to one noun."""

    def __init__(self, truth: Truth, faults: Faults | None = None) -> None:
        self._truth, self._faults = truth, faults or Faults()
        self.calls = 0

    @property
    def info(self) -> ModelInfo:
        return self._faults.info

    def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
        """Boxes of every noun, the most certain first."""
        self.calls += 1
        video, frame = self._truth.locate(image_HW3)
        found = self._true(video, frame, nouns) + self._false(video, frame, nouns, image_HW3.shape[:2])
        return sorted(found, key=lambda d: (-d.score, d.box, d.noun))

    def _true(self, video: TrueVideo, frame: int, nouns: Sequence[str]) -> list[Detection]:
        found = []
        for n in np.flatnonzero(np.isfinite(video.boxes_TN4[frame, :, 0])).tolist():
            object_id = video.objects[n]
            if self._faults.happens("missed", self._faults.missed, (video.id, object_id), frame):
                continue
            score = self._faults.uniform(DETECTED, "box", video.id, object_id, frame)
            shifts = self._faults.draw("jitter", video.id, object_id, frame).normal(0, self._faults.jitter, 4)
            box = _shifted(video.boxes_TN4[frame, n], shifts, video.masks_TNHW.shape[2:])
            found += [Detection(box, score, noun, noun) for noun in nouns if video.answers_to(n, noun)]
        return found

    def _false(self, video: TrueVideo, frame: int, nouns: Sequence[str], size: tuple[int, ...]) -> list[Detection]:
        """Each video has as many places that are taken for something as it has objects; they lie still."""
        found = []
        for place in range(len(video.objects) if nouns else 0):
            if not self._faults.happens("false", self._faults.false_boxes, (video.id, place), frame):
                continue
            draw = self._faults.draw("place", video.id, place)
            like = np.nanmedian(video.boxes_TN4[:, draw.integers(len(video.objects))], axis=0)
            extent = (like[2:] - like[:2]) * draw.uniform(0.7, 1.3)
            corner = draw.uniform(0, 1, 2) * np.maximum(np.array(size[::-1]) - extent, 0)
            box = _clipped(np.concatenate([corner, corner + extent]), size)
            score = self._faults.uniform(DETECTED, "false", video.id, place, frame)
            noun = min(nouns, key=lambda word: self._faults.draw("false", video.id, place, word).random())
            found.append(Detection(box, score, noun, noun))
        return found


def _shifted(box_4: np.ndarray, shifts_4: np.ndarray, size: tuple[int, ...]) -> Box:
    sides = np.tile(box_4[2:] - box_4[:2], 2)
    moved = box_4 + shifts_4 * sides
    return _clipped(np.concatenate([np.minimum(moved[:2], moved[2:]), np.maximum(moved[:2], moved[2:])]), size)


def _clipped(box_4: np.ndarray, size: tuple[int, ...]) -> Box:
    """Inside the frame and at least a pixel wide and high."""
    far = np.array(size[::-1], float)
    low = np.clip(box_4[:2], 0, far - 1)
    x0, y0, x1, y1 = np.concatenate([low, np.clip(box_4[2:], low + 1, far)]).tolist()
    return x0, y0, x1, y1
