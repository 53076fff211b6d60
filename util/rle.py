"""COCO run-length encoding of binary masks: the form in which masks leave memory and lie on disk.

A run-length mask is `{"size": [height, width], "counts": str}`: lengths of alternating runs of 0 and 1, starting
with 0, counted down the columns, each stored as the difference to the run two before it in base 32 characters.
It is what pycocotools reads and writes, byte for byte (a test compares them), but it is done in numpy here, because
pycocotools trusts its input: counts that do not fill the frame make it read foreign memory.
"""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from util.errors import InputError

_BITS = 5  # payload bits of a character; the bit above says that more characters follow
_MORE = 1 << _BITS
_SIGN = 1 << (_BITS - 1)
_FIRST = 48  # character '0'
_LONGEST = 13  # characters that a 64-bit difference can take


class RLE(TypedDict):
    """A mask as COCO writes it: `size` is [height, width], `counts` the compressed runs."""

    size: list[int]
    counts: str


def encode(mask: ArrayLike) -> RLE:
    """Run-length form of a mask [H, W]; non-zero is foreground. Raises InputError for any other rank."""
    mask_HW = np.asarray(mask)
    if mask_HW.ndim != 2:
        raise InputError(f"a mask has two dimensions, not {mask_HW.ndim}; encode one frame at a time")
    flat = (mask_HW != 0).ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start = [0, 0] if flat.size and flat[0] else [0]  # the first run is one of zeros, be it empty
    runs = np.diff(np.concatenate([np.asarray(start, np.int64), edges, [flat.size]]))
    return {"size": [int(side) for side in mask_HW.shape], "counts": _pack(runs)}


def decode(rle: Any) -> np.ndarray:
    """Mask bool [H, W]. `counts` may be a compressed string, bytes, or a plain list of run lengths.

    Raises InputError when it is not a run-length mask or its runs do not fill the frame exactly.
    """
    height, width, runs = _runs(rle)
    values = np.zeros(len(runs), bool)
    values[1::2] = True
    return np.repeat(values, runs).reshape(width, height).T


def area(rle: Any) -> int:
    """Foreground pixels, without decoding the mask. Raises InputError as `decode` does."""
    return int(_runs(rle)[2][1::2].sum())


def _runs(rle: Any) -> tuple[int, int, np.ndarray]:
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        if not isinstance(counts, str | bytes):
            counts = np.asarray(counts, np.int64).reshape(-1)
    except (TypeError, KeyError, ValueError, OverflowError, IndexError):
        raise InputError('not a run-length mask; expected {"size": [height, width], "counts": ...}') from None
    if isinstance(counts, np.ndarray):
        runs = counts
    else:
        runs = _unpack(counts.encode("latin-1", "replace") if isinstance(counts, str) else counts)
    if height < 0 or width < 0 or (runs < 0).any() or runs.sum() != height * width:
        raise InputError(f"run-length mask is damaged: its runs do not fill {height}x{width} pixels; write it again")
    return height, width, runs


def _pack(runs: np.ndarray) -> str:
    values = runs.copy()
    values[3:] -= runs[1:-2]
    characters = np.zeros((len(values), _LONGEST), np.uint8)
    open_ = np.ones(len(values), bool)
    used = np.zeros((len(values), _LONGEST), bool)
    for position in range(_LONGEST):
        used[:, position] = open_
        low = values & (_MORE - 1)
        values = values >> _BITS
        # a value ends where the rest is only the sign of its last five bits
        open_ = open_ & (values != np.where(low & _SIGN, -1, 0))
        characters[:, position] = low + np.where(open_, _MORE, 0) + _FIRST
        if not open_.any():
            break
    return characters[used].tobytes().decode("ascii")


def _unpack(text: bytes) -> np.ndarray:
    if not text:
        return np.zeros(0, np.int64)
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - _FIRST
    if codes.min() < 0 or codes.max() >= 2 * _MORE or codes[-1] & _MORE:
        raise InputError("run-length mask is damaged: its counts are not COCO characters; write it again")
    last = np.flatnonzero((codes & _MORE) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > _LONGEST - 1:
        raise InputError("run-length mask is damaged: a run is longer than any frame; write it again")
    position = np.arange(len(codes)) - np.repeat(first, length)
    values = np.add.reduceat((codes & (_MORE - 1)) << (_BITS * position), first)
    values = np.where(codes[last] & _SIGN, values - (np.int64(1) << (_BITS * length)), values)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
