"""Frames in which a detector looks: at a fixed stride, and wherever something comes into view.

A frame is laid out as small blocks of mean colour. A block is new when no block next to its place looked like it in the
last key frame, so what moves a little is not new and what enters, appears or is uncovered is. No model is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from util.errors import InputError


@dataclass(frozen=True)
class KeyFrameConfig:
    """stride  frames between key frames where nothing happens.
    change  share of the frame that must be new for one more; 1 for none. apart  least frames between two.
    """

    stride: int = 4
    change: float = 0.03
    apart: int = 2

    def __post_init__(self) -> None:
        if self.stride < 1 or self.apart < 1 or not 0 < self.change <= 1:
            raise InputError("key frames need stride and apart of at least 1 frame, and change above 0 and up to 1")


ROWS = 24  # blocks along the shorter side
DIFFERENT = 30.0  # distance of two colours, 0..255 in each channel, that noise and JPEG do not reach


def find_key_frames(frames: Iterable[np.ndarray], config: KeyFrameConfig) -> tuple[int, ...]:
    """Key frames of a video, ascending; the first and the last are always among them. `frames`: uint8 [H, W, 3]."""
    keys: list[int] = []
    last_hw3, length = np.zeros((0, 0, 3), np.float32), 0
    for index, frame_HW3 in enumerate(frames):
        blocks_hw3 = _blocks(frame_HW3)
        length = index + 1
        gap = index - keys[-1] if keys else config.stride
        if gap >= config.stride or (gap >= config.apart and _new_share(blocks_hw3, last_hw3) >= config.change):
            keys.append(index)
            last_hw3 = blocks_hw3
    return tuple(sorted({*keys, length - 1})) if length else ()


def _blocks(frame_HW3: np.ndarray) -> np.ndarray:
    height, width = frame_HW3.shape[:2]
    side = max(min(height, width) / ROWS, 1)
    size = max(round(width / side), 1), max(round(height / side), 1)
    return cv2.resize(frame_HW3, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def _new_share(blocks_hw3: np.ndarray, before_hw3: np.ndarray) -> float:
    """Share of blocks that differ from all nine around their place before."""
    height, width = blocks_hw3.shape[:2]
    padded = np.pad(before_hw3, ((1, 1), (1, 1), (0, 0)), mode="edge")
    nearest = np.full((height, width), np.inf, np.float32)
    for down in range(3):
        for right in range(3):
            apart = np.linalg.norm(blocks_hw3 - padded[down : down + height, right : right + width], axis=-1)
            nearest = np.minimum(nearest, apart)
    return float((nearest > DIFFERENT).mean())
