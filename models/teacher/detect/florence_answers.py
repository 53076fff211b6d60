"""What Florence-2 writes, read back: labels followed by boxes, quadrilaterals or polygons in a thousand bins an axis.

An answer is text with location tokens: `a dog<loc_10><loc_20><loc_500><loc_700>`, four to a box (several boxes may
follow one label), eight to a quadrilateral; polygons stand between <poly> and </poly> (an instance) and are divided by
<sep>. It is read here and not by the processor of transformers, which rounds coordinates to integers, drops letters
outside ASCII, and takes all of an answer for polygons when one of them is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from models.teacher.detect.boxes import clip_box
from util.types import Box

BINS = 1000  # of each axis
Shape = Literal["text", "boxes", "quads", "polygons", "boxes or polygons"]

_PLACES = r"<loc_\d+>|<poly>|</poly>|<sep>"
_LABELLED = re.compile(rf"([^<]*)((?:{_PLACES})+)")
_OTHER_TOKENS = re.compile(rf"(?!{_PLACES})</?[a-z][a-z_]*>")  # <s>, </s>, <pad>, and markers of parts


@dataclass(frozen=True)
class Region:
    """A part of an image that was named.

    label     what it was called; "" for a proposal
    box       xyxy in pixels
    polygons  corners (x, y) in pixels [P, 2], their union being the region; () where only the box is known
    """

    label: str
    box: Box
    polygons: tuple[np.ndarray, ...] = ()


def plain_text(answer: str) -> str:
    """The answer without its tokens: a caption, say."""
    return " ".join(re.sub(_PLACES, " ", _OTHER_TOKENS.sub("", answer)).split())


def read_regions(answer: str, shape: Shape, height: int, width: int) -> list[Region]:
    """The regions of an answer, in pixels of the image. What is cut off or makes no area is left out."""
    regions = []
    for found in _LABELLED.finditer(_OTHER_TOKENS.sub("", answer)):
        label, places = " ".join(found[1].split()), found[2]
        if shape == "polygons" or (shape == "boxes or polygons" and "<poly>" in places):
            candidates = _polygons(label, places, height, width)
        else:
            candidates = _corners(label, places, 8 if shape == "quads" else 4, height, width)
        regions += [region for region in candidates if region is not None]
    return regions


def region_mask(region: Region, height: int, width: int) -> np.ndarray:
    """Pixels inside any of the region's polygons, bool [H, W]."""
    mask_HW = np.zeros((height, width), np.uint8)
    for polygon_P2 in region.polygons:  # one by one: together, overlapping ones would cut holes
        cv2.fillPoly(mask_HW, [np.floor(polygon_P2).astype(np.int32)], (1,))
    return mask_HW.astype(bool)


def location_tokens(box: Box, height: int, width: int) -> str:
    """A box as Florence-2 is told of it: the bins of its corners."""
    return "".join(
        f"<loc_{min(max(int(value / side * BINS), 0), BINS - 1)}>"
        for value, side in zip(box, (width, height) * 2, strict=True)
    )


def _corners(label: str, places: str, count: int, height: int, width: int) -> Iterator[Region | None]:
    points_P2 = _points(places, height, width)
    for start in range(0, len(points_P2) - count // 2 + 1, count // 2):
        corners_P2 = points_P2[start : start + count // 2]
        yield _region(label, corners_P2, (corners_P2,) if count == 8 else (), height, width)


def _polygons(label: str, places: str, height: int, width: int) -> Iterator[Region | None]:
    instances = re.findall(r"<poly>(.*?)(?:</poly>|$)", places) or [places]
    for instance in instances:
        polygons = [_points(part, height, width) for part in instance.split("<sep>")]
        polygons = [polygon_P2 for polygon_P2 in polygons if len(polygon_P2) > 2]
        if polygons:
            yield _region(label, np.concatenate(polygons), tuple(polygons), height, width)


def _points(places: str, height: int, width: int) -> np.ndarray:
    """Centres of the bins [P, 2]; a last number without its partner is dropped."""
    bins = np.asarray([int(number) for number in re.findall(r"<loc_(\d+)>", places)], np.float64)
    return (bins[: len(bins) // 2 * 2].reshape(-1, 2) + 0.5) * (width / BINS, height / BINS)


def _region(
    label: str, points_P2: np.ndarray, polygons: tuple[np.ndarray, ...], height: int, width: int
) -> Region | None:
    box = clip_box([*points_P2.min(0), *points_P2.max(0)], height, width)
    return None if box is None else Region(label, box, polygons)
