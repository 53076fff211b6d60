"""What hides things without being one: pillars and foliage, standing in the scene in front of everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Occluder:
    """A pillar from the top of the picture to its bottom, or foliage, a heap of discs.

    discs: (x, y, radius) in heights where the camera rests in the middle; a pillar has one, whose radius is half its
    width and whose y does not count.
    """

    kind: Literal["pillar", "foliage"]
    discs: tuple[tuple[float, float, float], ...]

    def distance(self, discs: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Signed distance in heights of screen points to the edge, float32, negative inside.

        discs: this occluder's as seen on the screen, [D, 3, ...] broadcast against x and y.
        """
        nearest = None
        for centre_x, centre_y, radius in discs:
            if self.kind == "pillar":
                apart = np.abs(x - centre_x) + np.float32(0) * y
            else:
                apart = np.sqrt((x - centre_x) ** 2 + (y - centre_y) ** 2)
            nearest = apart - radius if nearest is None else np.minimum(nearest, apart - radius)
        assert nearest is not None
        return nearest
