"""The textured background of a synthetic world and its light: made once for a video, then only shifted."""

from __future__ import annotations

import cv2
import numpy as np

from .draw import Draw

# Muted pairs that a ground blends between; every named colour of a thing stands out from them.
GROUNDS = (
    ((196, 184, 160), (150, 138, 116)),
    ((150, 160, 168), (96, 106, 118)),
    ((146, 156, 134), (92, 104, 84)),
    ((178, 164, 158), (122, 106, 104)),
    ((206, 204, 196), (150, 150, 146)),
    ((108, 104, 112), (66, 64, 76)),
    ((170, 176, 186), (116, 120, 138)),
    ((128, 116, 100), (82, 74, 66)),
)


class Backdrop:
    """A ground at one resolution with a margin for the camera. `light_from`: unit vector (x, y) towards the light."""

    def __init__(self, seed: tuple[int, ...], height: int, width: int, reach: float) -> None:
        draw = Draw(*seed)
        self._margin = int(np.ceil(reach * height)) + 1
        self._height, self._width = height, width
        angle = draw.between(-0.85, -0.15) * np.pi
        self.light_from = np.array([np.cos(angle), np.sin(angle)])
        self._ground = _ground(draw, height + 2 * self._margin, width + 2 * self._margin, height)
        self._ground = self._ground.clip(0, 255).astype(np.float32)
        rows = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height - 0.5
        columns = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width - 0.5
        bright = 1.0 + 0.22 * (columns * self.light_from[0] + rows * self.light_from[1])
        vignette = 1.0 - 0.35 * (columns * columns + rows * rows)
        self._light = (bright * vignette).astype(np.float32)[..., None]
        self._flicker = draw.between(0.01, 0.05), draw.between(0.5, 1.5), draw.between(0.0, 6.3)

    def view(self, camera: np.ndarray, scale: float) -> np.ndarray:
        """The ground as seen with the camera moved by (x, y) heights; float32 [H, W, 3], free to draw on.

        scale: of the view; 1 here, as nothing zooms in a plain world.
        """
        shift_x, shift_y = (float(value) * self._height + self._margin for value in camera)
        matrix = np.array([[1.0, 0.0, shift_x], [0.0, 1.0, shift_y]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self._ground, matrix, (self._width, self._height), flags=flags)

    def light(self, u: float) -> np.ndarray:
        """Brightness of each pixel at moment `u`, float32 [H, W, 1]; brightens and dims slowly."""
        strength, cycles, phase = self._flicker
        return self._light * np.float32(1.0 + strength * np.sin(2 * np.pi * cycles * u + phase))


def _ground(draw: Draw, rows: int, columns: int, height: int) -> np.ndarray:
    """Colours before light, float32 [rows, columns, 3]; `height` pixels make one unit of length."""
    near, far = (np.array(colour, np.float32) for colour in draw.pick(GROUNDS))
    slope = draw.between(0, 2 * np.pi)
    y = np.linspace(-0.5, 0.5, rows, dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, columns, dtype=np.float32)[None, :]
    blend = 0.5 + 0.7 * (np.float32(np.cos(slope)) * x + np.float32(np.sin(slope)) * y)
    blend = blend + _noise(draw, rows, columns, 4, 0.35) + _noise(draw, rows, columns, 9, 0.22)
    ground = far + np.clip(blend, 0, 1)[..., None] * (near - far)
    scatter(draw, ground, height)
    texture = _noise(draw, rows, columns, 26, 11.0) + _noise(draw, rows, columns, 64, 9.0)
    pattern = draw.pick(("none", "planks", "tiles"))
    if pattern != "none":
        texture = texture + seams(draw, rows, columns, height, tiles=pattern == "tiles")
    return ground + texture[..., None]


def _noise(draw: Draw, rows: int, columns: int, cells: int, strength: float) -> np.ndarray:
    """Smooth noise of about `cells` bumps down the picture, float32 [rows, columns] in +-strength / 2."""
    grid = draw.grid(cells, max(1, round(cells * columns / rows))) - np.float32(0.5)
    return cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_CUBIC) * np.float32(strength)


def seams(draw: Draw, rows: int, columns: int, height: int, *, tiles: bool) -> np.ndarray:
    """Thin dark lines between planks or tiles, float32 [rows, columns]."""
    period = draw.between(0.16, 0.3) * height
    tilt = draw.between(-0.4, 0.4)
    y, x = np.arange(rows, dtype=np.float32)[:, None], np.arange(columns, dtype=np.float32)[None, :]
    cosine, sine = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    width = np.float32(0.012 * height)
    dark = np.zeros((rows, columns), np.float32)
    for along in (y * cosine - x * sine, x * cosine + y * sine)[: 2 if tiles else 1]:
        off = np.abs((along / np.float32(period)) % 1 - np.float32(0.5)) * np.float32(period)
        dark = np.maximum(dark, np.clip(1 - off / width, 0, 1))
    return dark * np.float32(-26.0)


def scatter(draw: Draw, ground: np.ndarray, height: int) -> None:
    """Irregular low-contrast patches, drawn into `ground`; none resembles a named shape."""
    rows, columns = ground.shape[:2]
    for _ in range(9):
        centre = np.array([draw.between(0, columns), draw.between(0, rows)])
        size = draw.between(0.05, 0.2) * height
        turns = np.arange(7) * (2 * np.pi / 7) + draw.between(0, 6)
        reach = size * np.array([draw.between(0.45, 1.0) for _ in turns])
        points = centre + np.stack([np.cos(turns), np.sin(turns)], axis=-1) * reach[:, None]
        change = draw.between(10, 24) * draw.sign()
        left, top = np.maximum(points.min(axis=0).astype(int) - 1, 0)
        right, bottom = points.max(axis=0).astype(int) + 2
        patch = ground[top:bottom, left:right]
        if patch.size:
            cover = np.zeros(patch.shape[:2], np.uint8)
            fixed = np.round((points - (left, top)) * 16).astype(np.int32)
            cv2.fillPoly(cover, [fixed], 255, lineType=cv2.LINE_AA, shift=4)
            patch += cover[..., None] * np.float32(change / 255)
