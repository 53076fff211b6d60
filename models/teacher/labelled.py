"""Masklets beside the truth, where a video has it: how good they are, and a model that foretells it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from models.teacher.calibration import QualityModel, fit_quality
from models.teacher.judging import EXPORTED
from models.teacher.pipeline import Taught
from models.teacher.quality import FEATURES
from models.teacher.resolver import Decision
from util.scoring import true_masks


@dataclass(frozen=True)
class Masklet:
    """A sentence that was decided on: what was measured of its masklet, and its J (0 where there is no referent)."""

    video: str
    decision: Decision
    features: dict[str, float]
    j: float


def answer_masks(taught: Taught) -> np.ndarray:
    """The masks bool [E, T, H, W] that were decided on; empty for every sentence that was not answered."""
    tracks = taught.tracks
    masks_ETHW = np.zeros((len(taught.decisions), tracks.length, *tracks.size), bool)
    for e, decision in enumerate(taught.decisions):
        for row in decision.rows if decision.status in EXPORTED else ():
            for frame in np.flatnonzero(tracks.visible_NT()[row]).tolist():
                masks_ETHW[e, frame] |= tracks.mask(row, frame)
    return masks_ETHW


def labelled_masklets(taught: Taught) -> Iterator[Masklet]:
    """Every masklet of a video whose labels are known, in the frames that are labelled.

    Raises InputError where the video comes without an answer.
    """
    masks_ETHW, video = answer_masks(taught), taught.video
    frames = range(len(video.frames)) if video.labelled is None else video.labelled
    truth = [true_masks(video, frame) for frame in frames]
    for e, (decision, quality) in enumerate(zip(taught.decisions, taught.qualities, strict=True)):
        known = [place for place, (_, known_E) in enumerate(truth) if known_E[e]]
        if quality is not None and known:
            true_THW = np.stack([truth[place][0][e] for place in known])
            told_THW = np.stack([masks_ETHW[e, frames[place]] for place in known])
            yield Masklet(video.id, decision, dict(quality.features), volume_j(told_THW, true_THW))


def volume_j(masks_THW: np.ndarray, true_THW: np.ndarray) -> float:
    """Mean IoU over the frames in which either mask shows something; 0 where none does."""
    union_T = (masks_THW | true_THW).sum((1, 2))
    shared_T = (masks_THW & true_THW).sum((1, 2))
    return float((shared_T[union_T > 0] / union_T[union_T > 0]).mean()) if union_T.any() else 0.0


def fit(masklets: Iterable[Masklet]) -> QualityModel:
    """The model of J of these masklets. Raises InputError for fewer videos than it takes."""
    listed = list(masklets)
    rows = np.array([[masklet.features[name] for name in FEATURES] for masklet in listed], np.float64)
    j = np.array([masklet.j for masklet in listed])
    return fit_quality(FEATURES, rows.reshape(len(listed), len(FEATURES)), j, [masklet.video for masklet in listed])
