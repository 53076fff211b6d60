"""How far masks overlap, in one frame and over a whole video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from util import rle

ROUNDING = 1.01  # boxes and areas are in single precision; a bound must not fall below what it bounds


def intersections(masks: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
    """Shared pixels [N, M] of masks bool [H, W]."""
    if not masks or not others:
        return np.zeros((len(masks), len(others)))
    a, b = (np.stack([mask.ravel() for mask in side]).astype(np.float32) for side in (masks, others))
    return (a @ b.T).astype(np.float64)


def overlaps(masks: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """IoU [N, M], and intersection over the smaller area [N, M]; 0 where a mask is empty."""
    shared = intersections(masks, others)
    areas, other_areas = (np.array([mask.sum() for mask in side], np.float64) for side in (masks, others))
    union = areas[:, None] + other_areas[None] - shared
    smaller = np.minimum(areas[:, None], other_areas[None])
    return _quotient(shared, union), _quotient(shared, smaller)


def assign(values_NM: np.ndarray, least: float) -> list[tuple[int, int]]:
    """The one-to-one pairs (row, column) of greatest total value, of those of at least `least` (Kuhn 1955)."""
    from scipy.optimize import linear_sum_assignment

    allowed = np.where(values_NM >= least, values_NM, 0.0)
    rows, columns = linear_sum_assignment(allowed, maximize=True)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if values_NM[r, c] >= least]


class Volumes:
    """IoU of N objects with M others over a whole video, added up frame by frame."""

    def __init__(self, objects: int, others: int) -> None:
        self._shared_NM, self._either_NM = np.zeros((objects, others)), np.zeros((objects, others))

    def add(self, masks: Sequence[np.ndarray], others: Sequence[np.ndarray], known_N: np.ndarray) -> None:
        """One frame: masks bool [H, W] of either side. An object that is not known in it is left out of it."""
        shared = intersections(masks, others)
        areas, other_areas = (np.array([mask.sum() for mask in side], np.float64) for side in (masks, others))
        self._shared_NM[known_N] += shared[known_N]
        self._either_NM[known_N] += (areas[:, None] + other_areas[None] - shared)[known_N]

    def ious(self) -> np.ndarray:
        """IoU [N, M]; 0 where both are empty throughout."""
        return _quotient(self._shared_NM, self._either_NM)


def set_f1(ious_NM: np.ndarray, least: float) -> float:
    """F1 of two sets of objects, of which a pair is the same one from an IoU of `least` on; 1 for two empty sets."""
    wanted, told = ious_NM.shape
    return 2 * len(assign(ious_NM, least)) / (wanted + told) if wanted + told else 1.0


def frame_ious(masks: Sequence[rle.RLE | None], others: Sequence[rle.RLE | None]) -> np.ndarray:
    """IoU [T] of two tracks, frame by frame; NaN where both are empty."""
    ious = np.full(len(masks), np.nan)
    for frame, (runs, other) in enumerate(zip(masks, others, strict=True)):
        if runs is not None and other is not None:
            a, b = rle.decode(runs), rle.decode(other)
            ious[frame] = (a & b).sum() / (a | b).sum()
        elif runs is not None or other is not None:
            ious[frame] = 0.0
    return ious


def iou_bounds(boxes_NT4: np.ndarray, areas_NT: np.ndarray, n: int, m: int) -> np.ndarray:
    """What the IoU [T] of two tracks cannot exceed, by their boxes and areas; NaN where either is empty.

    boxes in 0..1 of the frame and NaN where empty, areas as shares of the frame.
    """
    low = np.maximum(boxes_NT4[n, :, :2], boxes_NT4[m, :, :2])
    high = np.minimum(boxes_NT4[n, :, 2:], boxes_NT4[m, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    smaller, larger = np.minimum(areas_NT[n], areas_NT[m]), np.maximum(areas_NT[n], areas_NT[m])
    both = smaller > 0
    return np.where(both, np.minimum(shared * ROUNDING, smaller) / np.where(both, larger, 1), np.nan)


def _quotient(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
