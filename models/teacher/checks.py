"""Asking the models again: is the object found again, does it come back, does the sentence still fit, and no other?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.tracks import Tracks
from models.teacher.detect.boxes import box_iou
from models.teacher.edits import edits
from models.teacher.interfaces import Detector, Matcher, Parsed, Prompt, Question, TrackView, VideoSegmenter
from models.teacher.quality import NAN, unused_frames
from models.teacher.resolver import Decision
from util.errors import InputError
from util.types import PRESENT, FrameSource


@dataclass(frozen=True)
class CheckConfig:
    """frames  asked again of each masklet; score  least of a detection that counts.
    cycle  whether each object that is used is followed back, which takes as long as tracking it did.
    edited  whether matchers are asked about sentences with a word swapped as well, each of which costs as one more.
    """

    frames: int = 4
    score: float = 0.35
    cycle: bool = True
    edited: bool = True

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


def cycle_ious(tracks: Tracks, rows: Sequence[int], frames: FrameSource, segmenter: VideoSegmenter) -> dict[int, float]:
    """IoU in the frame in which a track began, with what is found there by following it back from its far end.

    The far end is the present frame farthest from where it began. NaN for a row that is present in that one alone. All
    rows share one session, so that a frame is encoded once for all of them.
    """
    began = {row: tracks.tracks[row].prompts[0].frame for row in rows}
    far = {row: _far_end(tracks, row, began[row]) for row in rows}
    going = [row for row in rows if far[row] != began[row]]
    found = dict.fromkeys(rows, NAN)
    session = segmenter.open(frames)
    try:
        for frame in range(len(frames)):
            for row in going:
                if frame == far[row]:
                    session.add(row, Prompt(frame, mask_HW=tracks.mask(row, frame)))
                elif far[row] < frame <= began[row]:
                    mask_HW = session.step(row, frame).mask_HW
                    found[row] = _iou(mask_HW, tracks.mask(row, frame)) if frame == began[row] else NAN
        for frame in range(len(frames) - 1, -1, -1):
            for row in going:
                if began[row] <= frame < far[row]:
                    mask_HW = session.step(row, frame, reverse=True).mask_HW
                    found[row] = _iou(mask_HW, tracks.mask(row, frame)) if frame == began[row] else NAN
    finally:
        session.close()
    return found


def _far_end(tracks: Tracks, row: int, began: int) -> int:
    """The present frame farthest from where a track began; that one where there is no other, or it is empty there."""
    present = np.flatnonzero(tracks.states_NT()[row] == PRESENT)
    if not len(present) or not tracks.visible_NT()[row, began]:
        return began
    return int(present[np.abs(present - began).argmax()])


def _iou(mask_HW: np.ndarray, other_HW: np.ndarray) -> float:
    return float((mask_HW & other_HW).sum() / (mask_HW | other_HW).sum())


def ask_again(
    decision: Decision,
    parsed: Parsed,
    tracks: Tracks,
    views: Sequence[TrackView],
    frames: FrameSource,
    used: Sequence[int],
    matcher: Matcher,
    config: CheckConfig,
) -> dict[str, float]:
    """What a matcher says of a masklet in fresh frames, the least over its tracks; NaN where it says nothing.

    verify       mean score of the sentence; hardneg_gap  what that is above the best one with a word swapped
    """
    seen = np.asarray(tracks.visible_NT()[list(decision.rows)].any(0))
    fresh = unused_frames(seen, used, config.frames)
    if not fresh or not decision.rows:
        return {"verify": NAN, "hardneg_gap": NAN}
    images = {frame: frames[frame] for frame in fresh}
    others = edits(parsed, motion=matcher.sees_motion) if config.edited else ()
    said = matcher.score(Question(tracks.video_id, images, [views[row] for row in decision.rows], [parsed, *others]))
    judged_ENF = np.isfinite(said.scores_ENF)
    sums_EN, counts_EN = np.where(judged_ENF, said.scores_ENF, 0.0).sum(-1), judged_ENF.sum(-1)
    means_EN = np.divide(sums_EN, counts_EN, out=np.full(sums_EN.shape, np.nan), where=counts_EN > 0)
    gaps_N = means_EN[0] - means_EN[1:].max(0, initial=-np.inf)  # NaN where any of them was not judged
    return {
        "verify": min(means_EN[0][np.isfinite(means_EN[0])].tolist(), default=NAN),
        "hardneg_gap": min(gaps_N[np.isfinite(gaps_N)].tolist(), default=NAN),
    }
