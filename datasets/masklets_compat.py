"""Masklets in the layout of Ref-YouTube-VOS, for readers that know no other.

A palette image gives each pixel to one object, and a sentence means exactly one. So of objects that overlap anywhere
only those stay whose sentences weigh most, unless they may be painted over each other; what cannot be said is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets import tree
from datasets.ref_youtube_vos import write_ref_youtube_vos
from util.types import ABSENT, PRESENT, MaskSource, ReferringVideo

CATEGORY = "others"  # of Ref-YouTube-VOS's 65 names the one that fits anything


class PaintedMasks:
    """Masks in which every pixel belongs to the first object of `order` that has it."""

    def __init__(self, masks: MaskSource, order: Sequence[int]) -> None:
        self._masks, self._order = masks, order

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool [N, H, W], disjoint, and states int8 [N]: what was ignored is what its mask shows."""
        masks, _ = self._masks.read(index, self._order)
        before = np.cumsum(masks, axis=0) - masks
        painted = dict(zip(self._order, masks & (before == 0), strict=True))
        found = np.stack([painted[i] for i in object_ids]) if object_ids else masks[:0]
        return found, np.where(found.any((1, 2)), PRESENT, ABSENT).astype(np.int8)


def write_compat(
    videos: Sequence[ReferringVideo], root: Path, split: str, *, paint: bool = False, quality: int = tree.JPEG_QUALITY
) -> tree.Written:
    """Write masklets as a split in Ref-YouTube-VOS's layout; objects are numbered anew in each video, from 1.

    paint  keep objects that overlap, the one of the greater weight on top. Raises InputError as the layout's writer.
    """
    left_out: list[str] = []

    def kept() -> Iterator[ReferringVideo]:
        for video in videos:
            found = _single(video, paint, left_out)
            if found.expressions:
                yield found

    written = write_ref_youtube_vos(kept(), root, split, quality=quality, category=CATEGORY)
    return replace(written, left_out=(*left_out, *written.left_out))


def _single(video: ReferringVideo, paint: bool, left_out: list[str]) -> ReferringVideo:
    """The sentences that mean one object that may stay."""
    assert video.masks is not None
    weight: dict[int, float] = {}
    for expression in video.expressions:
        for object_id in expression.object_ids or ():
            weight[object_id] = max(weight.get(object_id, 0.0), expression.weight)
    order = sorted(weight, key=lambda i: (-weight[i], i))
    if not paint:
        order = _disjoint(video, order)
    number = {object_id: place for place, object_id in enumerate(sorted(order), 1)}
    expressions = []
    for expression in video.expressions:
        ids = expression.object_ids or ()
        if len(ids) != 1:
            left_out.append(f"{video.id}/{expression.id}: {len(ids)} objects")
        elif ids[0] not in number:
            left_out.append(f"{video.id}/{expression.id}: overlaps an object of greater weight")
        else:
            expressions.append(replace(expression, object_ids=(number[ids[0]],)))
    masks = _Renumbered(PaintedMasks(video.masks, order), {n: i for i, n in number.items()})
    return replace(video, expressions=tuple(expressions), masks=masks)


class _Renumbered:
    def __init__(self, masks: MaskSource, old: dict[int, int]) -> None:
        self._masks, self._old = masks, old

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        return self._masks.read(index, [self._old[i] for i in object_ids])


def _disjoint(video: ReferringVideo, order: Sequence[int]) -> list[int]:
    """Those of `order` that share no pixel in any frame with one before them that stays."""
    assert video.masks is not None
    meets = np.zeros((len(order), len(order)), bool)
    for index in range(len(video.frames) if order else 0):
        flat = video.masks.read(index, order)[0].reshape(len(order), -1).astype(np.float32)
        meets |= flat @ flat.T > 0
    stays: list[int] = []
    for place in range(len(order)):
        if not meets[place, stays].any():
            stays.append(place)
    return [order[place] for place in stays]
