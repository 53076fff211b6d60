"""Matchers without a model: the truth itself, as a ceiling, and chance, as a floor; the scripted one lies between."""

from __future__ import annotations

import numpy as np

from models.teacher.interfaces import MatchScores, ModelInfo, Question
from models.teacher.scripted.truth import Truth


class OracleMatcher:
    """Scores are each mask's IoU with the true one; it is sure whether there is a referent at all."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    @property
    def info(self) -> ModelInfo:
        return ModelInfo("oracle", "truth", None, "none: the labels' own")

    @property
    def sees_motion(self) -> bool:
        return True

    def score(self, question: Question) -> MatchScores:
        said = question.unjudged()
        for f, (frame, image) in enumerate(question.images.items()):
            video, at = self._truth.locate(image)
            shown = [track.mask(frame) for track in question.tracks]
            for e, parsed in enumerate(question.expressions):
                rows = video.referents.get(parsed.text, ())
                said.absent_E[e] = float(not rows)
                for n, mask in enumerate(shown):
                    if mask.any():
                        overlaps = (_iou(mask, video.masks_TNHW[at, row]) for row in rows)
                        said.scores_ENF[e, n, f] = max(overlaps, default=0.0)
        return said


class RandomMatcher:
    """Scores are uniform, the same for the same video, sentence, track and frame."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    @property
    def info(self) -> ModelInfo:
        return ModelInfo("random", "chance", str(self._seed), "none: made of nothing")

    @property
    def sees_motion(self) -> bool:
        return False

    def score(self, question: Question) -> MatchScores:
        said, draw = question.unjudged(), np.random.default_rng([self._seed, *question.video_id.encode()])
        said.scores_ENF[:] = draw.random(said.scores_ENF.shape)
        said.scores_ENF[:, ~question.seen_NF] = np.nan
        return said


def _iou(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / (mask | other).sum())
