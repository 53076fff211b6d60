"""The published resize rule (ReferFormer's, spec 6.2), in one place for training and inference."""

from __future__ import annotations


def resized(size: tuple[int, int], short_side: int, max_side: int | None = None) -> tuple[int, int]:
    """(height, width) with the short side at `short_side`, or less so that the long one is at most `max_side`.

    The long side is truncated, not rounded; a size whose short side fits already is left as it is.
    """
    short, long = min(size), max(size)
    if max_side is not None and long / short * short_side > max_side:
        short_side = round(max_side * short / long)
    if short == short_side:
        return size
    other = int(short_side * long / short)
    return (short_side, other) if size[0] <= size[1] else (other, short_side)
