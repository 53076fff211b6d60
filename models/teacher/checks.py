"""Asking the models again: is the object found again, does it come back, and does the sentence still fit?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.tracks import Tracks
from models.teacher.detect.boxes import box_iou
from models.teacher.interfaces import Detector, Matcher, Parsed, Prompt, TrackView, VideoSegmenter
from models.teacher.quality import NAN, unused_frames
from models.teacher.resolver import Decision
from util.errors import InputError
from util.types import PRESENT, FrameSource


@dataclass(frozen=True)
class CheckConfig:
    """frames  asked again of each masklet; score  least of a detection that counts.
    cycle  whether each object that is used is followed back, which takes as long as tracking it did.
    """

    frames: int = 4
    score: float = 0.35
    cycle: bool = True

    def __post_init__(self) -> None:
        if self.frames < 0 or not 0 <= self.score <= 1:
            raise InputError("checks need frames of at least 0, and a score from 0 to 1")


def redetect_iou(
    tracks: Tracks,
    row: int,
    nouns: Sequence[str],
    frames: FrameSource,
    used: Sequence[int],
    detector: Detector,
    config: CheckConfig,
) -> float:
    """Mean over fresh frames of the best IoU of the track's box with a detection of its nouns; NaN without a frame."""
    fresh = unused_frames(tracks.visible_NT()[row], used, config.frames)
    boxes_T4 = tracks.pixel_boxes_NT4()[row]
    best = []
    for frame in fresh:
        found = [d.box for d in detector.detect(frames[frame], nouns) if d.score >= config.score]
        ious = box_iou(boxes_T4[frame][None].astype(np.float64), np.array(found, np.float64).reshape(-1, 4))
        best.append(float(ious.max(initial=0)))
    return float(np.mean(best)) if best else NAN


def cycle_iou(tracks: Tracks, row: int, frames: FrameSource, segmenter: VideoSegmenter) -> float:
    """IoU in the frame in which a track began, with what is found there by following it back from its far end.

    The far end is the present frame farthest from where it began. NaN where it is present in that one alone.
    """
    began = tracks.tracks[row].prompts[0].frame
    present = np.flatnonzero(tracks.states_NT()[row] == PRESENT)
    if not len(present) or (present == began).all() or not tracks.visible_NT()[row, began]:
        return NAN
    far = int(present[np.abs(present - began).argmax()])
    session = segmenter.open(frames)
    try:
        found = session.add(0, Prompt(far, mask_HW=tracks.mask(row, far)))
        step = 1 if began > far else -1
        for frame in range(far + step, began + step, step):
            found = session.step(0, frame, reverse=step < 0)
    finally:
        session.close()
    true = tracks.mask(row, began)
    return float((found.mask_HW & true).sum() / (found.mask_HW | true).sum())


def verify(
    decision: Decision,
    parsed: Parsed,
    tracks: Tracks,
    views: Sequence[TrackView],
    frames: FrameSource,
    used: Sequence[int],
    matcher: Matcher,
    config: CheckConfig,
) -> float:
    """Least over a masklet's tracks of the mean score that a matcher gives them in fresh frames; NaN without any."""
    seen = np.asarray(tracks.visible_NT()[list(decision.rows)].any(0))
    fresh = unused_frames(seen, used, config.frames)
    if not fresh or not decision.rows:
        return NAN
    images = {frame: frames[frame] for frame in fresh}
    scores = matcher.score(tracks.video_id, images, [views[row] for row in decision.rows], [parsed]).scores_ENF[0]
    means = [float(np.nanmean(row)) for row in scores if np.isfinite(row).any()]
    return min(means, default=NAN)
