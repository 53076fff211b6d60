"""Does an object go anywhere, whatever the camera does? And does its sentence say that it should?

A few times in the video, the way of the background within a quarter of a second is found: corners outside of every
track are followed (Lucas and Kanade 1981, pyramidal), and the similarity that most of them obey (RANSAC) is what the
camera did. An object has gone as far as its box's centre has from where the camera alone would have taken it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from datasets.tracks import Tracks
from models.teacher import words
from models.teacher.interfaces import Parsed
from util.types import PRESENT, FrameSource

MOVED = 0.005  # of the frame's diagonal, from which a thing has gone somewhere
MOMENTS = 8
SECONDS = 0.25
SIDE = 640  # pixels of the longer side in which corners are followed
LEAST = 8  # corners that must agree


@dataclass(frozen=True)
class Pan:
    """What the camera did from one frame to another: a point (x, y) in pixels goes to `matrix_23` (x, y, 1)."""

    first: int
    last: int
    matrix_23: np.ndarray


def travels(parsed: Parsed) -> bool:
    """Whether the sentence says of something that it goes from one place to another."""
    said = re.findall(r"\w+", parsed.text.lower())
    return parsed.motion and not parsed.negated and any(words.verb(word) in words.TRAVELS for word in said)


def camera(tracks: Tracks, frames: FrameSource) -> list[Pan]:
    """The camera's ways at up to `MOMENTS` moments, evenly spread; those that cannot be told are left out."""
    reach = min(max(1, round(frames.fps * SECONDS)), tracks.length - 1)
    if reach < 1:
        return []
    starts = np.unique(np.linspace(0, tracks.length - 1 - reach, MOMENTS).round().astype(int)).tolist()
    pans = [_pan(tracks, frames, first, first + reach) for first in starts]
    return [pan for pan in pans if pan is not None]


def gone(tracks: Tracks, row: int, pans: Sequence[Pan]) -> float:
    """Median over the moments at which a track is present of how far it goes, in diagonals; NaN without a moment."""
    present_T, boxes_T4 = tracks.states_NT()[row] == PRESENT, tracks.pixel_boxes_NT4()[row].astype(np.float64)
    centres_T2 = (boxes_T4[:, :2] + boxes_T4[:, 2:]) / 2
    ways = [
        np.hypot(*(centres_T2[pan.last] - pan.matrix_23 @ [*centres_T2[pan.first], 1.0]))
        for pan in pans
        if present_T[pan.first] and present_T[pan.last]
    ]
    return float(np.median(ways) / np.hypot(*tracks.size)) if ways else float("nan")


def _pan(tracks: Tracks, frames: FrameSource, first: int, last: int) -> Pan | None:
    shrink = min(1.0, SIDE / max(tracks.size))
    before, after = (_grey(frames[frame], shrink) for frame in (first, last))
    covered = np.zeros(tracks.size, np.uint8)
    for row in np.flatnonzero(tracks.visible_NT()[:, first]).tolist():
        covered |= tracks.mask(row, first).astype(np.uint8)
    beside = (cv2.resize(covered, before.shape[::-1], interpolation=cv2.INTER_AREA) == 0).astype(np.uint8)
    beside = cv2.erode(beside, np.ones((7, 7), np.uint8))  # an object's outline moves with it
    corners = cv2.goodFeaturesToTrack(before, 300, 0.01, 5, mask=beside)
    if corners is None or len(corners) < LEAST:
        return None
    found, status, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, np.empty_like(corners))
    kept = status.ravel() == 1
    if kept.sum() < LEAST:
        return None
    matrix_23, inliers = cv2.estimateAffinePartial2D(corners[kept], found[kept], ransacReprojThreshold=1.5)
    # things that nothing tracks may move as well: the background is what more than half of the corners do
    if matrix_23 is None or inliers.sum() < max(LEAST, kept.sum() / 2):
        return None
    matrix_23[:, 2] /= shrink
    return Pan(first, last, matrix_23)


def _grey(image_HW3: np.ndarray, shrink: float) -> np.ndarray:
    grey = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY)
    return grey if shrink == 1 else cv2.resize(grey, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
