"""What stands between a hard world and its picture: surfaces, exposure, focus, a noisy sensor and compression.

As in `hard_backdrop`, only operations that give the same bits on every machine touch a pixel.
"""

from __future__ import annotations

import cv2
import numpy as np

from .draw import Draw
from .shapes import limited
from .textures import Images, detail

# A surface's tile: so many texels a side for 2.6 unit lengths, which is a thing with all its corners.
_TILE, _TILE_UNITS = 80, 2.6
_NOISE_ROOM = 32  # pixels by which the sensor's noise is moved from frame to frame, so that none repeats its neighbour


class Effects:
    """The effects of one video at one resolution.

    shadow: how far shadows lie from their things and how soft their edge is, in radii, and how dark they are.
    """

    def __init__(self, seed: tuple[int, ...], height: int, width: int, images: Images | None) -> None:
        draw = Draw(*seed)
        self.shadow = draw.between(0.25, 0.6), draw.between(0.25, 0.5), draw.between(0.3, 0.55)
        self._rough = np.float32(draw.between(0.1, 0.24))
        self._tiles = [_tile(draw, images) for _ in range(4)]
        self._focus = draw.between(0.0, 0.006) * height, draw.between(0.5, 1.5), draw.between(0.0, 1.0)
        grain = draw.grid(height + _NOISE_ROOM, width + _NOISE_ROOM) + draw.grid(
            height + _NOISE_ROOM, width + _NOISE_ROOM
        )
        self._noise = np.round((grain - np.float32(1)) * np.float32(draw.between(4, 22))).astype(np.int16)
        self._quality = int(draw.between(45, 92)) if draw.chance(0.75) else None
        self._size = height, width

    def surface(self, number: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Brightness of thing `number` at points of its unit coordinates, float32 about 1."""
        step = np.float32(_TILE / _TILE_UNITS)
        middle = np.float32(_TILE / 2)
        column = limited(x * step + middle, 0, _TILE - 1).astype(np.intp)
        row = limited(y * step + middle, 0, _TILE - 1).astype(np.intp)
        return np.float32(1) + self._rough * self._tiles[number % len(self._tiles)][row, column]

    def finish(self, picture: np.ndarray, u: float) -> np.ndarray:
        """The picture, float32 [H, W, 3], as the camera stores it at moment `u`, uint8."""
        stored: np.ndarray = limited(picture + np.float32(0.5), 0, 255).astype(np.uint8)
        most, cycles, phase = self._focus
        sigma = most * (0.5 + 0.5 * np.cos(2 * np.pi * (cycles * u + phase)))
        if sigma > 0.25:
            stored = cv2.GaussianBlur(stored, (0, 0), round(sigma * 64) / 64)
        height, width = self._size
        # Any number that differs from frame to frame will do.
        place = round(u * 1e6) * 2654435761 % 2**32
        top, left = place % _NOISE_ROOM, place // _NOISE_ROOM % _NOISE_ROOM
        grain = self._noise[top : top + height, left : left + width]
        stored = limited(stored + grain[..., None], 0, 255).astype(np.uint8)
        if self._quality is None:
            return stored
        _, coded = cv2.imencode(
            ".jpg", cv2.cvtColor(stored, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, self._quality]
        )
        decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert decoded is not None
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def smear(patch: np.ndarray, across: float, down: float) -> np.ndarray:
    """The mean of a patch [h, w, C] over a way of (across, down) pixels about its place; what enters is zero."""
    steps = int(max(abs(across), abs(down)) + 0.5)
    if steps < 1:
        return patch
    total = np.zeros_like(patch)
    height, width = patch.shape[:2]
    for step in range(steps + 1):
        part = step / steps - 0.5
        right, low = round(across * part), round(down * part)
        tall, wide = height - abs(low), width - abs(right)
        if tall > 0 and wide > 0:
            source = patch[max(-low, 0) :, max(-right, 0) :][:tall, :wide]
            total[max(low, 0) :, max(right, 0) :][:tall, :wide] += source
    return total * np.float32(1 / (steps + 1))


def _tile(draw: Draw, images: Images | None) -> np.ndarray:
    made = detail(draw, _TILE, _TILE, (6, 12, 26))
    if images is not None:
        made = made * np.float32(0.3) + images.patch(draw, _TILE, _TILE)
    return made
