"""The ground and light of hard videos: rough textures, light that wanders, flickers and changes its colour.

Every pixel is made by numpy's additions, multiplications and divisions and by OpenCV's integer resizing, none of which
differs between machines: compression, which comes after, would make much of a last bit.
"""

from __future__ import annotations

import numpy as np

from .backdrop import GROUNDS, scatter, seams
from .draw import Draw
from .shapes import limited
from .textures import Images, detail
from .world import Camera


class HardBackdrop:
    """As `Backdrop`, for a camera that zooms. `light_from`: unit vector (x, y) to where light comes from at first."""

    def __init__(self, seed: tuple[int, ...], height: int, width: int, camera: Camera, images: Images | None) -> None:
        draw = Draw(*seed)
        self._height, self._width = height, width
        # Backing away shows more of the ground on all sides.
        seen_more = abs(camera.zoom) / 2 * max(1.0, width / height)
        self._margin = int(np.ceil((camera.reach + seen_more) * height)) + 2
        angle = draw.between(-0.85, -0.15) * np.pi
        self.light_from = np.array([np.cos(angle), np.sin(angle)])
        ground = _ground(draw, height + 2 * self._margin, width + 2 * self._margin, height, images)
        self._ground = np.round(ground.clip(0, 255)).astype(np.float32)
        # From the middle, in sides of the frame.
        self._y = (np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)) / np.float32(height) - np.float32(
            0.5
        )
        self._x = (np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5)) / np.float32(width) - np.float32(0.5)
        self._vignette = np.float32(1) - np.float32(0.45) * (self._x * self._x + self._y * self._y)
        self._gradient = draw.between(0.2, 0.45), angle, draw.between(-1.2, 1.2)
        self._flicker = draw.between(0.02, 0.07), draw.between(2.0, 7.0), draw.between(0.0, 6.3)
        self._warmth = draw.between(-0.12, 0.12), draw.between(0.02, 0.1), draw.between(0.4, 1.2)
        # The edge of something's shadow passes over the picture: its strength, where it is at first, how far it goes.
        self._shade = draw.between(0.0, 0.32), draw.between(-0.3, 1.3), draw.between(-0.7, 0.7), draw.between(0.15, 0.4)

    def view(self, camera: np.ndarray, scale: float) -> np.ndarray:
        """The ground seen with the camera moved by (x, y) heights and zoomed; float32 [H, W, 3], free to draw on."""
        rows = self._sources(self._height, float(camera[1]), scale)
        columns = self._sources(self._width, float(camera[0]), scale)
        first, part = rows
        above = np.take(self._ground, first, axis=0)
        mixed = np.take(self._ground, first + 1, axis=0)
        mixed -= above
        mixed *= part[:, None, None]
        mixed += above
        first, part = columns
        left = np.take(mixed, first, axis=1)
        right = np.take(mixed, first + 1, axis=1)
        right -= left
        right *= part[None, :, None]
        right += left
        return right

    def _sources(self, length: int, moved: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Along one side: the ground's line before each of the picture's, and how far on towards the next one."""
        centre = length / 2 + self._margin + moved * self._height - 0.5
        at = np.round((((np.arange(length) + 0.5) - length / 2) / scale + centre) * 4096) / 4096
        first = np.floor(at).astype(np.intp)
        return first, (at - first).astype(np.float32)

    def light(self, u: float) -> np.ndarray:
        """Brightness of each pixel and colour at moment `u`, float32 [H, W, 3]."""
        strength, angle, turned = self._gradient
        slope_x = _stable(strength * np.cos(angle + turned * u))
        slope_y = _stable(strength * np.sin(angle + turned * u))
        bright = (slope_x * self._x + np.float32(1)) + slope_y * self._y
        bright *= self._vignette
        dark, first, way, soft = self._shade
        across = (self._x + _stable(0.5 - first - way * u)) * _stable(1 / soft)
        bright *= np.float32(1) - _stable(dark) * limited(across + (self._y + np.float32(0.5)))
        swing, cycles, phase = self._flicker
        level = 1.08 + swing * np.sin(2 * np.pi * cycles * u + phase)
        base, change, times = self._warmth
        warm = base + change * np.sin(2 * np.pi * times * u + phase)
        gains = np.array([_stable(level * (1 + warm)), _stable(level), _stable(level * (1 - warm))], np.float32)
        return bright[..., None] * gains


def _stable(value: float) -> np.float32:
    """Without the last bits, in which the sines of machines differ."""
    return np.float32(round(float(value) * 4096) / 4096)


def _ground(draw: Draw, rows: int, columns: int, height: int, images: Images | None) -> np.ndarray:
    """Colours before light, float32 [rows, columns, 3]; `height` pixels make one unit of length."""
    near, far = (np.array(colour, np.float32) for colour in draw.pick(GROUNDS))
    blend = np.float32(0.5) + detail(draw, rows, columns, (3, 7, 15)) * np.float32(0.6)
    ground = far + limited(blend)[..., None] * (near - far)
    scatter(draw, ground, height)
    rough: np.ndarray = detail(draw, rows, columns, (24, 48, 96)) * np.float32(draw.between(14, 34))
    if images is not None:
        rough = rough * np.float32(0.3) + images.patch(draw, rows, columns) * np.float32(draw.between(28, 44))
    pattern = draw.pick(("none", "planks", "tiles"))
    if pattern != "none":
        rough = rough + seams(draw, rows, columns, height, tiles=pattern == "tiles")
    return ground + rough[..., None]
