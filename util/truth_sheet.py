"""A picture of what a set of videos asks: each video's frames in a row, its sentences below, their objects outlined."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from util.drawing import GREY, PAPER, colour_of, outline, shorten, text_width, write
from util.scoring import true_masks
from util.types import ReferringVideo

_GAP, _LINE, _LETTER = 8, 20, 8
_MOST = 5  # sentences shown of a video: as many as a line's colours can be told apart in a small frame


def truth_sheet(videos: Sequence[ReferringVideo], *, frames: int = 6, cell_width: int = 240) -> np.ndarray:
    """One row of `frames` frames, spread evenly, for each video, uint8 RGB; an object has the colours of its sentences.

    Lines around one object are its sentences', the first innermost. Raises InputError when a video has no truth.
    """
    width = frames * (cell_width + _GAP) + _GAP
    return np.concatenate([_row(video, frames, cell_width, width) for video in videos])


def _row(video: ReferringVideo, count: int, cell_width: int, width: int) -> np.ndarray:
    height = round(video.frames.size[0] * cell_width / video.frames.size[1])
    asked = video.expressions[:_MOST]
    row = np.full((_GAP + height + _GAP // 2 + _LINE * max(1, len(asked)) + _GAP, width, 3), PAPER, np.uint8)
    for n, index in enumerate(np.linspace(0, len(video.frames) - 1, count).round().astype(int)):
        left = _GAP + n * (cell_width + _GAP)
        row[_GAP : _GAP + height, left : left + cell_width] = _cell(video, int(index), (height, cell_width))
    for e, expression in enumerate(asked):
        top = _GAP + height + _GAP // 2 + e * _LINE
        row[top + 3 : top + 15, _GAP : _GAP + 12] = colour_of(e)
        told = f"{expression.type or ''}: {len(expression.object_ids or ())}"
        write(row, told, width - _GAP - text_width(told, _LETTER), top + 4, _LETTER, GREY)
        room = width - 4 * _GAP - 12 - text_width(told, _LETTER)
        write(row, shorten(expression.text, _LETTER, room), _GAP + 20, top + 4, _LETTER)
    if not asked:
        write(row, "no sentence", _GAP, _GAP + height + _GAP, _LETTER, GREY)
    return row


def _cell(video: ReferringVideo, index: int, size: tuple[int, int]) -> np.ndarray:
    """A frame at the sheet's size with the objects of its sentences outlined."""
    image = cv2.resize(video.frames[index], size[::-1], interpolation=cv2.INTER_CUBIC)
    truth_EHW, _ = true_masks(video, index)
    around = np.zeros(size, np.uint8)  # lines that are drawn here already
    for e, mask_HW in enumerate(truth_EHW[:_MOST]):
        if not mask_HW.any():
            continue
        smooth = cv2.resize(mask_HW.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
        lines = int(around[smooth].max(initial=0))
        grown = cv2.dilate(smooth.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=2 * lines)
        outline(image, grown > 0, colour_of(e))
        around[smooth] = lines + 1
    return image
