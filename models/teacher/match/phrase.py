"""Grounding DINO as a matcher: how well the whole sentence grounds on each track, not its noun alone.

For a query, phrase = sqrt(head * words): the probability of the head noun and the mean of all words'. The score of a
track is the greatest IoU(query box, track box) * phrase. It is cheap where the detector is loaded anyway; it rejects
well, and chooses badly between things of one kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from models.teacher.detect.boxes import box_iou
from models.teacher.interfaces import MatchScores, ModelInfo, Question


class Grounded(Protocol):
    """Every query's answer to one phrase; see `detect.grounding_dino.Grounding`."""

    @property
    def boxes_Q4(self) -> np.ndarray: ...
    @property
    def scores_QW(self) -> np.ndarray: ...
    @property
    def head_Q(self) -> np.ndarray: ...


class Grounder(Protocol):
    """What grounds phrases in an image: a Grounding DINO."""

    @property
    def info(self) -> ModelInfo: ...

    def ground(
        self, image_HW3: np.ndarray, phrases: Sequence[str], heads: Sequence[str] | None = None
    ) -> Sequence[Grounded]: ...


class PhraseMatcher:
    """A `Matcher` that asks a grounding model for every sentence in every frame."""

    def __init__(self, grounder: Grounder) -> None:
        self._grounder = grounder

    @property
    def info(self) -> ModelInfo:
        return replace(self._grounder.info, backend=f"{self._grounder.info.backend}_phrase")

    @property
    def sees_motion(self) -> bool:
        return False

    def score(self, question: Question) -> MatchScores:
        """NaN where a track is not seen, or a sentence has no word; `absent` is not judged."""
        said, tracks = question.unjudged(), question.tracks
        asked = [e for e, parsed in enumerate(question.expressions) if any(letter.isalnum() for letter in parsed.text)]
        phrases, heads = ([getattr(question.expressions[e], name) for e in asked] for name in ("text", "noun"))
        for f, (frame, image) in enumerate(question.images.items() if tracks and asked else ()):
            boxes_N4 = np.stack([track.boxes_T4[frame] for track in tracks]).astype(np.float64)
            seen = np.isfinite(boxes_N4).all(-1)
            for e, grounding in zip(asked, self._grounder.ground(image, phrases, heads), strict=True):
                said.scores_ENF[e, seen, f] = phrase_scores(grounding, boxes_N4[seen])
        return said


def phrase_scores(grounding: Grounded, boxes_N4: np.ndarray) -> np.ndarray:
    """Score [N] of boxes by the formula above."""
    phrase_Q = np.sqrt(grounding.head_Q * grounding.scores_QW.mean(-1))
    return (box_iou(boxes_N4, grounding.boxes_Q4) * phrase_Q).max(-1, initial=0.0)
