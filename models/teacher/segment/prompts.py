"""What an object is told by: checks of a prompt, its form inside SAM 2, and points drawn from a mask."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.teacher.interfaces import Prompt
from util.errors import InputError

TOP_LEFT, BOTTOM_RIGHT = 2, 3  # SAM 2 takes a box as two more kinds of points
POINTS = 10  # as many as Grounded SAM 2 draws; always the same number, so that shapes do not change


@dataclass(frozen=True)
class Clicks:
    """A box or points in pixels of the model's square: points_P2 float32 (x, y), labels_P int32."""

    points_P2: Tensor
    labels_P: Tensor


def prepare(prompt: Prompt, size: tuple[int, int], side: int) -> Clicks | Tensor:
    """The prompt for a model whose frames are `side` x `side`: clicks, or a mask float32 [side, side] of 0 and 1.

    Raises InputError unless it is exactly one of a box, a mask and points that lies in a frame of `size` (h, w).
    """
    given = (prompt.box is not None) + (prompt.mask_HW is not None) + bool(prompt.points)
    if given != 1:
        raise InputError(f"a prompt is one of a box, a mask and points; this one has {given} of them")
    if prompt.mask_HW is not None:
        return _mask(prompt.mask_HW, size, side)
    scale = torch.tensor([side / size[1], side / size[0]])
    if prompt.box is not None:
        corners = torch.tensor(_inside(prompt.box, size), dtype=torch.float32).view(2, 2)
        return Clicks(corners * scale, torch.tensor([TOP_LEFT, BOTTOM_RIGHT], dtype=torch.int32))
    return _points(prompt.points, size, scale)


def points_of(mask_HW: np.ndarray, key: str, count: int = POINTS) -> tuple[tuple[float, float, int], ...]:
    """`count` points on the object, away from its border: its innermost pixel, then draws that depend on `key` alone.

    `key` names the video and the object, so that a second run draws the same. Raises InputError for an empty mask.
    """
    if not mask_HW.any():
        raise InputError("no points can be drawn from an empty mask; leave this object out")
    padded = np.pad(mask_HW.astype(np.uint8), 1)  # the frame's edge is a border too
    depth_HW = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    rows, columns = np.nonzero(depth_HW >= min(0.5 * depth_HW.max(), 8.0))
    innermost = np.unravel_index(int(depth_HW.argmax()), depth_HW.shape)
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    drawn = np.random.default_rng(seed).integers(len(rows), size=count - 1)
    pixels = [innermost, *zip(rows[drawn], columns[drawn], strict=True)]
    return tuple((float(x) + 0.5, float(y) + 0.5, 1) for y, x in pixels)


def _mask(mask_HW: np.ndarray, size: tuple[int, int], side: int) -> Tensor:
    if mask_HW.shape != size:
        raise InputError(f"the mask of a prompt is {mask_HW.shape} and the video {size}; give it at the video's size")
    if not mask_HW.any():
        raise InputError("the mask of a prompt is empty; leave this object out")
    mask = torch.as_tensor(mask_HW != 0).float()[None, None]
    square = F.interpolate(mask, (side, side), mode="bilinear", align_corners=False, antialias=True)[0, 0]
    # half of a pixel's area, except where the object is so thin that nothing of it would be left
    return (square >= min(0.5, float(square.max()))).float()


def _inside(box: tuple[float, ...], size: tuple[int, int]) -> tuple[float, ...]:
    height, width = size
    x0, y0, x1, y1 = (
        min(max(float(value), 0.0), limit) for value, limit in zip(box, (width, height, width, height), strict=True)
    )
    if not (x1 > x0 and y1 > y0):
        raise InputError(f"the box {tuple(box)} has no area in a frame of {width}x{height}; leave it out")
    return x0, y0, x1, y1


def _points(points: tuple[tuple[float, float, int], ...], size: tuple[int, int], scale: Tensor) -> Clicks:
    height, width = size
    for x, y, label in points:
        if not (0 <= x <= width and 0 <= y <= height) or label not in (0, 1):
            raise InputError(
                f"the point {(x, y, label)} lies beside the {width}x{height} frame, or its label is not 0 or 1"
            )
    if not any(label for *_, label in points):
        raise InputError("every point of the prompt is beside the object; give at least one on it, with the label 1")
    xy = torch.tensor([point[:2] for point in points], dtype=torch.float32)
    return Clicks(xy * scale, torch.tensor([point[2] for point in points], dtype=torch.int32))
