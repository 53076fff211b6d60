"""A matcher that knows which objects a sentence means, but for the faults it was told to make."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from models.teacher.edits import edits
from models.teacher.interfaces import MatchScores, ModelInfo, Question
from models.teacher.parser import RuleParser
from util.errors import InputError

from .faults import FITTING, OTHER, Faults
from .truth import TrueVideo, Truth

SAME = 0.5  # IoU from which a mask is taken for an object


class ScriptedMatcher:
    """It judges what a track's mask covers in each frame, so a track that has gone astray is seen to have."""

    def __init__(self, truth: Truth, faults: Faults | None = None) -> None:
        self._truth, self._faults = truth, faults or Faults()
        self._edited = lru_cache(maxsize=4)(_edited)

    @property
    def info(self) -> ModelInfo:
        return self._faults.info

    @property
    def sees_motion(self) -> bool:
        return True

    def score(self, question: Question) -> MatchScores:
        """NaN where a track shows nothing. Raises InputError for a sentence that is not the video's."""
        said = question.unjudged()
        images, tracks, expressions = question.images, question.tracks, question.expressions
        for f, frame in enumerate(images):
            video, at = self._truth.locate(images[frame])
            shown = [_shown(video, at, track.mask(frame)) for track in tracks]
            for e, expression in enumerate(expressions):
                believed = self._believed(video, expression.text, frame)
                for n, row in enumerate(shown):
                    if row is not None:
                        span = FITTING if row in believed else OTHER
                        what = ("match", video.id, expression.text, tracks[n].index, frame)
                        said.scores_ENF[e, n, f] = self._faults.uniform(span, *what)
        if images:
            video = self._truth.locate(next(iter(images.values())))[0]
            for e, expression in enumerate(expressions):
                span = OTHER if self._believed(video, expression.text, -1) else FITTING
                said.absent_E[e] = self._faults.uniform(span, "absent", video.id, expression.text)
        return said

    def _believed(self, video: TrueVideo, text: str, frame: int) -> tuple[int, ...]:
        """Rows of the objects that the sentence is taken to mean; in error, always the same other one, or none.

        A sentence of the video with a word swapped means nothing, unless it is another of the video's.
        """
        if text not in video.referents:
            if text in self._edited(video):
                return ()
            raise InputError(f"a scripted matcher was asked of {text!r}, which is no sentence of video {video.id}")
        true = video.referents[text]
        if not self._faults.happens("match", self._faults.wrong_matches, (video.id, text), frame):
            return true
        others = [row for row in range(len(video.objects)) if row not in true]
        if not others:
            return ()
        return (others[int(self._faults.draw("match", "other", video.id, text).integers(len(others)))],)


def _edited(video: TrueVideo) -> frozenset[str]:
    """The video's sentences with a word swapped."""
    parsed = (RuleParser().parse(text) for text in video.referents)
    return frozenset(edited.text for sentence in parsed for edited in edits(sentence, motion=True))


def _shown(video: TrueVideo, frame: int, mask_HW: np.ndarray) -> int | None:
    """The object that a mask covers, -1 for none, None where the mask is empty."""
    if not mask_HW.any():
        return None
    masks_NHW = video.masks_TNHW[frame]
    iou = (masks_NHW & mask_HW).sum((1, 2)) / np.maximum((masks_NHW | mask_HW).sum((1, 2)), 1)
    return int(iou.argmax()) if len(iou) and iou.max() >= SAME else -1
