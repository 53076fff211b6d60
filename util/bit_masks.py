"""Masks as bits, 64 pixels in a word: boundaries, dilation with a disk and counts at a fraction of the bytes' cost.

A stack is uint64 [N, rows, words]; pixel x of a row is bit x % 64 of word x // 64. The last words of a row are a gap of
zeros at least as wide as any shift, so that a row shifted sideways never reaches its neighbour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_WORD = 64


def pack(masks: Sequence[np.ndarray], reach: int) -> np.ndarray:
    """Masks bool [H, W] as one stack [N, H + 1, words] that may be shifted sideways by `reach` pixels.

    One more row and column than the frame has repeat its last ones, so that no pixel differs from a neighbour outside
    the frame: the frame's own edge is no boundary.
    """
    height, width = masks[0].shape
    words = -(-(width + 1 + reach) // _WORD)
    bytes_NHK = np.zeros((len(masks), height + 1, words * 8), np.uint8)
    last, bit = divmod(width, 8)
    for packed, mask in zip(bytes_NHK, masks, strict=True):
        packed[:height, : -(-width // 8)] = np.packbits(mask, axis=1, bitorder="little")
        packed[:height, last] |= mask[:, -1].view(np.uint8) << bit
    bytes_NHK[:, height] = bytes_NHK[:, height - 1]
    return bytes_NHK.view("<u8")


def crop(stack: np.ndarray, width: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of a stack that holds every set pixel and every boundary pixel, and words [words] that mark the frame.

    Marked are pixels of the frame (`width` wide), and neither the repeated column nor the gap, which is kept. A stack
    without any set pixel comes back with a single row.
    """
    any_HK = np.bitwise_or.reduce(stack, axis=0)
    rows = np.flatnonzero(np.bitwise_or.reduce(any_HK, axis=1))
    if not len(rows):
        return stack[:, :1, :1], np.zeros(1, stack.dtype)
    columns = np.flatnonzero(np.bitwise_or.reduce(any_HK, axis=0))
    # a boundary pixel lies up to one pixel above and to the left of what is set
    top, left = max(rows[0] - 1, 0), columns[0]
    if left and (any_HK[:, left] & np.uint64(1)).any():
        left -= 1
    bottom, right = min(rows[-1] + 2, stack.shape[1]), columns[-1] + 1
    gap = -(-(reach + 1) // _WORD)
    cropped = np.zeros((len(stack), bottom - top, right - left + gap), stack.dtype)
    cropped[:, :, :-gap] = stack[:, top:bottom, left:right]
    bits = np.arange(left * _WORD, (right + gap) * _WORD) < min(width, right * _WORD)
    return cropped, np.packbits(bits, bitorder="little").view("<u8")


def boundaries(stack: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Pixels that differ from their right, lower or lower-right neighbour, [N, rows - 1, words], inside the `frame`.

    The last row, repeated by `pack` or empty, is left out. (The boundary of Martin et al. 2004, as davis2017-evaluation
    draws it.)
    """
    shifted = _shift_left(stack)
    here = stack[:, :-1]
    edges = here ^ shifted[:, :-1]
    edges |= here ^ stack[:, 1:]
    edges |= here ^ shifted[:, 1:]
    edges &= frame
    return edges


def dilate(stack: np.ndarray, radius: float) -> np.ndarray:
    """Every pixel within `radius` of a set one: dilation with the disk x^2 + y^2 <= radius^2.

    The disk is a pile of horizontal lines. Lines of each length are drawn once, each from the next shorter one, and
    are then moved up and down to where the disk has them.
    """
    square = math.floor(radius**2)
    half_widths = [math.isqrt(square - y * y) for y in range(math.isqrt(square) + 1)]
    lines, width = stack, 0
    grown = np.zeros_like(stack)
    for y in range(len(half_widths) - 1, -1, -1):
        while width < half_widths[y]:
            step = min(half_widths[y] - width, 2 * width + 1, _WORD - 1)  # more would leave holes
            lines = _widened(lines, step)
            width += step
        if y == 0:
            grown |= lines
        elif y < stack.shape[1]:
            grown[:, y:] |= lines[:, :-y]
            grown[:, :-y] |= lines[:, y:]
    return grown


def count(stack: np.ndarray) -> np.ndarray:
    """Set pixels of each mask, int64 [...] for a stack [..., rows, words]."""
    return np.bitwise_count(stack).sum((-2, -1), dtype=np.int64)


def _shift_left(stack: np.ndarray) -> np.ndarray:
    """Rows moved left by a pixel."""
    flat = stack.reshape(-1)
    moved = flat >> np.uint64(1)
    moved[:-1] |= flat[1:] << np.uint64(_WORD - 1)
    return moved.reshape(stack.shape)


def _widened(stack: np.ndarray, by: int) -> np.ndarray:
    """The rows, together with themselves moved right and left by `by` pixels, 1 to 63."""
    flat, step, rest = stack.reshape(-1), np.uint64(by), np.uint64(_WORD - by)
    wide = flat << step
    wide |= flat >> step
    wide |= flat
    wide[1:] |= flat[:-1] >> rest
    wide[:-1] |= flat[1:] << rest
    return wide.reshape(stack.shape)
