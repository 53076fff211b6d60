"""Florence-2 as a matcher: does it put a box where the track is, when it is told the sentence?

It gives boxes without scores. So a track's score is the IoU of its box with the best box of either of two tasks, and 0
where that is under one half. It cannot say that nothing is meant.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from models.teacher.detect.boxes import box_iou
from models.teacher.interfaces import MatchScores, ModelInfo, Question

TASKS = ("caption_to_phrase_grounding", "open_vocabulary_detection")
LEAST = 0.5


class Answering(Protocol):
    """What does a task of one image: a Florence-2."""

    @property
    def info(self) -> ModelInfo: ...

    def run(self, image_HW3: np.ndarray, task: str, *, text: str = "") -> Any: ...


class FlorenceMatcher:
    """A `Matcher` that asks Florence-2 for every sentence in every frame."""

    def __init__(self, florence: Answering) -> None:
        self._florence = florence

    @property
    def info(self) -> ModelInfo:
        return replace(self._florence.info, backend="florence2_match")

    @property
    def sees_motion(self) -> bool:
        return False

    def score(self, question: Question) -> MatchScores:
        """NaN where a track is not seen, or a sentence has no word; `absent` is not judged."""
        said, tracks = question.unjudged(), question.tracks
        for f, (frame, image) in enumerate(question.images.items() if tracks else ()):
            boxes_N4 = np.stack([track.boxes_T4[frame] for track in tracks]).astype(np.float64)
            seen = np.isfinite(boxes_N4).all(-1)
            for e, parsed in enumerate(question.expressions):
                if any(letter.isalnum() for letter in parsed.text):
                    found = [r.box for task in TASKS for r in self._florence.run(image, task, text=parsed.text).regions]
                    said.scores_ENF[e, seen, f] = _best(boxes_N4[seen], np.array(found, np.float64).reshape(-1, 4))
        return said


def _best(boxes_N4: np.ndarray, found_M4: np.ndarray) -> np.ndarray:
    best_N = box_iou(boxes_N4, found_M4).max(-1, initial=0.0)
    return np.where(best_N >= LEAST, best_N, 0.0)
