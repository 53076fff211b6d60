"""Region similarity J, contour accuracy F and their statistics, equal to the DAVIS 2017 evaluator's numbers.

Sources: Perazzi et al., CVPR 2016 (definitions) and davis2017-evaluation (boundary map, tolerance, empty cases).
Two things are done differently, neither of which changes a number: only the rectangle that holds both masks is
looked at, and masks are bits of 64-pixel words there (`util/bit_masks.py`), so that a logical operation costs a
sixty-fourth of what it costs on pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from util import bit_masks
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
    return frame_scores(pred, gt, void)[0]


def boundary_f(pred: ArrayLike, gt: ArrayLike, void: ArrayLike | None = None, bound_th: float = BOUND_TH) -> float:
    """F measure of two masks' boundaries [H, W], matched within a tolerance; 1 when neither has a boundary.

    `bound_th` is a fraction of the diagonal, rounded up to pixels; from 1 on it is taken as pixels. Void pixels leave
    both masks before their boundaries are taken. Raises InputError when the shapes differ.
    """
    return frame_scores(pred, gt, void, bound_th)[1]


def frame_scores(
    pred: ArrayLike, gt: ArrayLike, void: ArrayLike | None = None, bound_th: float = BOUND_TH
) -> tuple[float, float]:
    """J and F of two masks [H, W]: `jaccard` and `boundary_f`, for the price of one."""
    pred_HW, gt_HW = np.asarray(pred), np.asarray(gt)
    if pred_HW.ndim != 2 or pred_HW.shape != gt_HW.shape:
        raise InputError(f"predicted mask {pred_HW.shape} and truth {gt_HW.shape} must have one frame's size")
    j, f = pairwise(pred_HW[None], gt_HW[None], void, bound_th)
    return float(j[0, 0]), float(f[0, 0])


def pairwise(
    preds_NHW: ArrayLike, gts_MHW: ArrayLike, void: ArrayLike | None = None, bound_th: float = BOUND_TH
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of every predicted mask with every true one, two float64 arrays [N, M], outside `void` [H, W].

    Each mask's boundary is drawn and dilated once. Raises InputError when the shapes differ.
    """
    preds, gts = np.asarray(preds_NHW), np.asarray(gts_MHW)
    if preds.ndim != 3 or gts.ndim != 3 or preds.shape[1:] != gts.shape[1:]:
        raise InputError(f"predicted masks {preds.shape} and truth {gts.shape} must have one frame's size")
    size, number = preds.shape[1:], len(preds)
    if void is not None and np.shape(void) != size:
        raise InputError(f"void mask {np.shape(void)} must have the size of the truth {size}")
    if not number or not len(gts):
        return np.zeros((number, len(gts))), np.zeros((number, len(gts)))
    radius = bound_pixels(size, bound_th)
    stack = bit_masks.pack([_binary(mask) for masks in (preds, gts) for mask in masks], math.floor(radius))
    if void is not None:
        stack &= ~bit_masks.pack([_binary(np.asarray(void))], math.floor(radius))
    masks, frame = bit_masks.crop(stack, size[1], math.floor(radius))
    edges = bit_masks.boundaries(masks, frame)
    near = bit_masks.dilate(edges, radius)
    masks = masks[:, :-1] & frame
    j = _ratio(*_intersection_and_union(masks[:number], masks[number:]))
    return j, _f_measure(edges[:number], near[:number], edges[number:], near[number:])


def _intersection_and_union(preds: np.ndarray, gts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shared_NM = _shared(preds, gts)
    return shared_NM, bit_masks.count(preds)[:, None] + bit_masks.count(gts)[None] - shared_NM


def _f_measure(pred_edges: np.ndarray, pred_near: np.ndarray, gt_edges: np.ndarray, gt_near: np.ndarray) -> np.ndarray:
    pred_count, gt_count = bit_masks.count(pred_edges)[:, None], bit_masks.count(gt_edges)[None]
    precision = _ratio(_shared(pred_edges, gt_near), pred_count)
    recall = _ratio(_shared(pred_near, gt_edges), gt_count)
    both = precision + recall
    f = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    one_is_empty = (pred_count == 0) ^ (gt_count == 0)
    return np.where(one_is_empty, 0.0, f)


def _shared(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pixels in both, [N, M]."""
    return np.stack([bit_masks.count(one & others) for one in some])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 1 where there is nothing of either."""
    return np.divide(part, whole, out=np.ones(part.shape), where=whole > 0)


def j_and_f(
    pred_THW: ArrayLike, gt_THW: ArrayLike, void_THW: ArrayLike | None = None, bound_th: float = BOUND_TH
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of every frame, two float64 arrays [T]. Raises InputError when the shapes differ."""
    pred, gt = np.asarray(pred_THW), np.asarray(gt_THW)
    void = None if void_THW is None else np.asarray(void_THW)
    if pred.ndim != 3 or pred.shape != gt.shape:
        raise InputError(f"predicted masks {pred.shape} and truth {gt.shape} must both be [frames, height, width]")
    voids = [None] * len(pred) if void is None else list(void)
    pairs = [frame_scores(p, g, v, bound_th) for p, g, v in zip(pred, gt, voids, strict=True)]
    j, f = np.array(pairs, np.float64).reshape(-1, 2).T
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


def _binary(mask_HW: np.ndarray) -> np.ndarray:
    return mask_HW if mask_HW.dtype == bool else mask_HW != 0
