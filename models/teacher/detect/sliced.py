"""Any detector on a large frame: on the whole and on overlapping tiles, where small things are large enough to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models.teacher.detect.boxes import clip_box, sort_by_score, suppress, tiles
from models.teacher.interfaces import Detection, Detector, ModelInfo
from util.types import Box

# Of a tile's side: a box that comes this near to an edge inside the frame is taken to be cut by it. The whole thing is
# in the neighbouring tile, which overlaps by more, or it is so large that the whole frame shows it.
_CUT = 0.01


class SlicedDetector:
    """A `Detector` around another: its boxes on the whole frame and on tiles of `size` pixels, suppressed per noun.

    overlap  of neighbouring tiles, 0..1; iou  above which two boxes of one noun are one
    """

    def __init__(self, inner: Detector, *, size: int = 480, overlap: float = 0.2, iou: float = 0.7) -> None:
        self.inner = inner
        self.size, self.overlap, self.iou = size, overlap, iou

    @property
    def info(self) -> ModelInfo:
        return self.inner.info

    def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
        """Boxes in pixels of the whole frame, the most certain first."""
        height, width = image_HW3.shape[:2]
        found = list(self.inner.detect(image_HW3, nouns))
        pieces = tiles(height, width, self.size, self.overlap)
        for piece in pieces if len(pieces) > 1 else ():
            left, top, right, bottom = piece
            tile_HW3 = np.ascontiguousarray(image_HW3[top:bottom, left:right])
            for detection in self.inner.detect(tile_HW3, nouns):
                box = clip_box(detection.box, bottom - top, right - left)
                if box is not None and not _cut(box, piece, height, width):
                    x0, y0, x1, y1 = box
                    found.append(replace(detection, box=(x0 + left, y0 + top, x1 + left, y1 + top)))
        return sort_by_score(suppress(found, self.iou))


def _cut(box: Box, piece: tuple[int, int, int, int], height: int, width: int) -> bool:
    """Whether a box, in pixels of its tile, reaches an edge of the tile that is not one of the frame."""
    left, top, right, bottom = piece
    near_x, near_y = _CUT * (right - left), _CUT * (bottom - top)
    return (
        (left > 0 and box[0] < near_x)
        or (top > 0 and box[1] < near_y)
        or (right < width and box[2] > right - left - near_x)
        or (bottom < height and box[3] > bottom - top - near_y)
    )
