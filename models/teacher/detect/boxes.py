"""What is done with boxes after a detector: overlap, suppression, the same thing found under several nouns, tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.teacher.interfaces import Detection
from util.types import Box


@dataclass(frozen=True)
class Candidate:
    """One thing in an image: its most certain detection, and the best score of every noun that found it."""

    best: Detection
    noun_scores: Mapping[str, float]


def box_iou(boxes_N4: np.ndarray, others_M4: np.ndarray) -> np.ndarray:
    """Intersection over union [N, M] of xyxy boxes; 0 for boxes without an area."""
    overlap_NM = _intersection(boxes_N4, others_M4)
    union_NM = _area(boxes_N4)[:, None] + _area(others_M4)[None] - overlap_NM
    return np.divide(overlap_NM, union_NM, out=np.zeros_like(overlap_NM), where=union_NM > 0)


def clip_box(box: Sequence[float], height: int, width: int) -> Box | None:
    """The part of an xyxy box inside the image; None where that is less than a pixel wide or high, or not finite."""
    if not np.isfinite(box).all():
        return None
    left, right = (float(np.clip(x, 0, width)) for x in (box[0], box[2]))
    top, bottom = (float(np.clip(y, 0, height)) for y in (box[1], box[3]))
    return (left, top, right, bottom) if right - left >= 1 and bottom - top >= 1 else None


def sort_by_score(detections: Sequence[Detection]) -> list[Detection]:
    """The most certain first; equals keep their order, so that runs are repeatable."""
    return sorted(detections, key=lambda detection: -detection.score)


def suppress(detections: Sequence[Detection], iou: float) -> list[Detection]:
    """Greedy non-maximum suppression within each noun: what overlaps a more certain box by more than `iou` goes."""
    groups = [
        group
        for noun in dict.fromkeys(detection.noun for detection in detections)
        for group in _groups([detection for detection in detections if detection.noun == noun], iou)
    ]
    return sort_by_score([group[0] for group in groups])


def merge_nouns(detections: Sequence[Detection], iou: float = 0.8) -> list[Candidate]:
    """Class-agnostic suppression: boxes that overlap by more than `iou` are one thing, whatever noun found them.

    The most certain first. No noun is lost: a dog found as "dog" and as "animal" keeps both scores.
    """
    merged = []
    for group in _groups(detections, iou):
        scores: dict[str, float] = {}
        for detection in group:
            scores[detection.noun] = max(detection.score, scores.get(detection.noun, 0.0))
        merged.append(Candidate(group[0], scores))
    return merged


def tiles(height: int, width: int, size: int, overlap: float) -> list[tuple[int, int, int, int]]:
    """Tiles (left, top, right, bottom) of at most `size` pixels a side that cover the image, row by row.

    Neighbours share at least `overlap` (0..1) of a tile; all tiles of an axis have the same length. An axis that is
    not longer than `size` is not cut.
    """
    columns, rows = _starts(width, size, overlap), _starts(height, size, overlap)
    return [(x, y, min(x + size, width), min(y + size, height)) for y in rows for x in columns]


def _starts(length: int, size: int, overlap: float) -> list[int]:
    if length <= size:
        return [0]
    step = max(1, int(size * (1 - overlap)))
    count = -(-(length - size) // step) + 1
    return [round(index * (length - size) / (count - 1)) for index in range(count)]


def _groups(detections: Sequence[Detection], iou: float) -> list[list[Detection]]:
    """Each kept detection followed by those it suppresses; kept ones from the most certain on."""
    ordered = sort_by_score(detections)
    boxes_N4 = np.asarray([detection.box for detection in ordered], np.float64).reshape(-1, 4)
    overlaps_NN = box_iou(boxes_N4, boxes_N4)
    free = np.ones(len(ordered), bool)
    groups = []
    for index in range(len(ordered)):
        if free[index]:
            taken = free & (overlaps_NN[index] > iou)
            taken[index] = True
            free &= ~taken
            groups.append([ordered[member] for member in np.flatnonzero(taken)])
    return groups


def _intersection(boxes_N4: np.ndarray, others_M4: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes_N4[:, None, :2], others_M4[None, :, :2])
    high = np.minimum(boxes_N4[:, None, 2:], others_M4[None, :, 2:])
    return np.clip(high - low, 0, None).prod(-1)


def _area(boxes_N4: np.ndarray) -> np.ndarray:
    return np.clip(boxes_N4[:, 2:] - boxes_N4[:, :2], 0, None).prod(-1)
