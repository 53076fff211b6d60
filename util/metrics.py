"""Region similarity J, contour accuracy F and their statistics, equal to the DAVIS 2017 evaluator's numbers.

Sources: Perazzi et al., CVPR 2016 (definitions) and davis2017-evaluation (boundary map, tolerance, empty cases).
Two things are done differently, neither of which changes a number: only the rectangle that holds both masks is
looked at, and "inside the disk-dilated boundary" is answered by an exact distance transform (linear in pixels)
instead of a dilation (quadratic in the tolerance).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from util.errors import InputError

BOUND_TH = 0.008  # tolerance of F as a fraction of the frame's diagonal


@dataclass(frozen=True)
class Statistics:
    """Of one per-frame series: its mean, the share of frames above 0.5, and first quarter minus last quarter."""

    mean: float
    recall: float
    decay: float


def jaccard(pred: ArrayLike, gt: ArrayLike, void: ArrayLike | None = None) -> float:
    """Intersection over union of two masks [H, W] outside `void`; 1 when both are empty there.

    Raises InputError when the shapes differ.
    """
    pred_HW, gt_HW = _pair(pred, gt, void)
    union = np.count_nonzero(pred_HW | gt_HW)
    return np.count_nonzero(pred_HW & gt_HW) / union if union else 1.0


def boundary_f(pred: ArrayLike, gt: ArrayLike, void: ArrayLike | None = None, bound_th: float = BOUND_TH) -> float:
    """F measure of two masks' boundaries [H, W], matched within a tolerance; 1 when neither has a boundary.

    `bound_th` is a fraction of the diagonal, rounded up to pixels; from 1 on it is taken as pixels. Void pixels leave
    both masks before their boundaries are taken. Raises InputError when the shapes differ.
    """
    pred_HW, gt_HW = _pair(pred, gt, void)
    radius = bound_pixels(pred_HW.shape, bound_th)
    window = _window(pred_HW | gt_HW)
    pred_edge, gt_edge = _boundary(pred_HW)[window], _boundary(gt_HW)[window]
    pred_count, gt_count = np.count_nonzero(pred_edge), np.count_nonzero(gt_edge)
    if not pred_count or not gt_count:
        return float(pred_count == gt_count)
    precision = np.count_nonzero(pred_edge & _near(gt_edge, radius)) / pred_count
    recall = np.count_nonzero(gt_edge & _near(pred_edge, radius)) / gt_count
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def j_and_f(
    pred_THW: ArrayLike, gt_THW: ArrayLike, void_THW: ArrayLike | None = None, bound_th: float = BOUND_TH
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of every frame, two float64 arrays [T]. Raises InputError when the shapes differ."""
    pred, gt = np.asarray(pred_THW), np.asarray(gt_THW)
    void = None if void_THW is None else np.asarray(void_THW)
    if pred.ndim != 3 or pred.shape != gt.shape:
        raise InputError(f"predicted masks {pred.shape} and truth {gt.shape} must both be [frames, height, width]")
    voids = [None] * len(pred) if void is None else list(void)
    j = np.array([jaccard(p, g, v) for p, g, v in zip(pred, gt, voids, strict=True)], np.float64)
    f = np.array([boundary_f(p, g, v, bound_th) for p, g, v in zip(pred, gt, voids, strict=True)], np.float64)
    return j, f


def statistics(values_T: ArrayLike) -> Statistics:
    """Mean, recall and decay of a per-frame series [T], T >= 1.

    The four bins share their end frames, as in DAVIS; their edges are exact for any T (the evaluator keeps them in
    8 bits, which wraps above 256 frames). Raises InputError for an empty series.
    """
    values = np.asarray(values_T, np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError("statistics need a series of at least one frame")
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(np.int64) - 1
    decay = values[: edges[1] + 1].mean() - values[edges[3] : edges[4] + 1].mean()
    return Statistics(float(values.mean()), float((values > 0.5).mean()), float(decay))


def bound_pixels(size: tuple[int, ...], bound_th: float = BOUND_TH) -> float:
    """Tolerance of F in pixels for a frame of `size` (height, width): 8 at 480x854, 2 at 120x200."""
    return bound_th if bound_th >= 1 else math.ceil(bound_th * math.hypot(*size))


def _pair(pred: ArrayLike, gt: ArrayLike, void: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    pred_HW, gt_HW = np.asarray(pred) != 0, np.asarray(gt) != 0
    if pred_HW.ndim != 2 or pred_HW.shape != gt_HW.shape:
        raise InputError(f"predicted mask {pred_HW.shape} and truth {gt_HW.shape} must have one frame's size")
    if void is None:
        return pred_HW, gt_HW
    valid_HW = np.asarray(void) == 0
    if valid_HW.shape != gt_HW.shape:
        raise InputError(f"void mask {valid_HW.shape} must have the size of the truth {gt_HW.shape}")
    return pred_HW & valid_HW, gt_HW & valid_HW


def _window(mask_HW: np.ndarray) -> tuple[slice, slice]:
    """The rectangle that holds every boundary pixel of a mask: its box, one pixel more above and to the left."""
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(max(rows[0] - 1, 0), rows[-1] + 1), slice(max(columns[0] - 1, 0), columns[-1] + 1)


def _boundary(mask_HW: np.ndarray) -> np.ndarray:
    """Pixels that differ from their right, lower or lower-right neighbour, one pixel wide.

    In the last row only the right neighbour counts, in the last column only the lower one, in the corner none; so
    the frame's own edge is no boundary.
    """
    edge = np.zeros_like(mask_HW)
    edge[:, :-1] |= mask_HW[:, :-1] ^ mask_HW[:, 1:]
    edge[:-1] |= mask_HW[:-1] ^ mask_HW[1:]
    edge[:-1, :-1] |= mask_HW[:-1, :-1] ^ mask_HW[1:, 1:]
    return edge


def _near(edge: np.ndarray, radius: float) -> np.ndarray:
    """Pixels within `radius` of a boundary pixel: its dilation with the disk x^2 + y^2 <= radius^2."""
    away = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # squared distances are integers: half of one is room for float32
    return away.astype(np.float64) ** 2 < math.floor(radius**2) + 0.5
