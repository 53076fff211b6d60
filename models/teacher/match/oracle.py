"""Matchers without a model: the truth itself, as a ceiling, and chance, as a floor; the scripted one lies between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.teacher.interfaces import MatchScores, ModelInfo, Parsed, TrackView
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

    def score(
        self,
        video_id: str,
        images: Mapping[int, np.ndarray],
        tracks: Sequence[TrackView],
        expressions: Sequence[Parsed],
    ) -> MatchScores:
        scores_ENF = np.full((len(expressions), len(tracks), len(images)), np.nan)
        absent_E = np.full(len(expressions), np.nan)
        for f, image in enumerate(images.values()):
            video, at = self._truth.locate(image)
            shown = [track.mask(frame) for frame in list(images)[f : f + 1] for track in tracks]
            for e, parsed in enumerate(expressions):
                rows = video.referents.get(parsed.text, ())
                absent_E[e] = float(not rows)
                for n, mask in enumerate(shown):
                    if mask.any():
                        scores_ENF[e, n, f] = max((_iou(mask, video.masks_TNHW[at, row]) for row in rows), default=0.0)
        return MatchScores(scores_ENF, absent_E)


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

    def score(
        self,
        video_id: str,
        images: Mapping[int, np.ndarray],
        tracks: Sequence[TrackView],
        expressions: Sequence[Parsed],
    ) -> MatchScores:
        draw = np.random.default_rng([self._seed, *video_id.encode()])
        scores_ENF = draw.random((len(expressions), len(tracks), len(images)))
        unseen_NF = np.array([[track.presence_T[frame] <= 0 for frame in images] for track in tracks], bool)
        if unseen_NF.size:
            scores_ENF[:, unseen_NF] = np.nan
        return MatchScores(scores_ENF, np.full(len(expressions), np.nan))


def _iou(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / (mask | other).sum())
