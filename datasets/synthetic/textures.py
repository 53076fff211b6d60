"""Surfaces: smooth noise that is the same on every machine, and the texture of images that the user points at."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np

from util.errors import InputError

from .draw import Draw

_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_LONG_SIDE = 512  # images are kept no larger: a texture is seen at the size of a thing or of the frame
_MOST = 500  # images taken from a folder, the first by name


def noise(draw: Draw, rows: int, columns: int, cells: int) -> np.ndarray:
    """Smooth noise of about `cells` bumps down the picture, float32 [rows, columns] in -1..1.

    Interpolated in integers, which OpenCV does alike everywhere.
    """
    grid = np.round(draw.grid(cells, max(1, round(cells * columns / rows))) * 255).astype(np.uint8)
    smooth = cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_LINEAR_EXACT)
    return (smooth.astype(np.float32) - np.float32(127.5)) * np.float32(1 / 127.5)


def detail(draw: Draw, rows: int, columns: int, cells: tuple[int, ...]) -> np.ndarray:
    """Noise of several finenesses with falling strength, float32 [rows, columns] in about -1..1."""
    total = np.zeros((rows, columns), np.float32)
    for order, count in enumerate(cells):
        total += noise(draw, rows, columns, count) * np.float32(0.62 / (1 + 0.5 * order))
    return total


class Images:
    """Square patches of light and dark from the images of a folder."""

    def __init__(self, folder: str) -> None:
        self._images = _read_all(folder)

    def patch(self, draw: Draw, rows: int, columns: int) -> np.ndarray:
        """A random cut of a random image, float32 [rows, columns] about 0, mostly in -1..1; of one strength always."""
        image = draw.pick(self._images)
        height, width = image.shape
        scale = min(height / rows, width / columns) * draw.between(0.5, 1.0)
        tall, wide = max(2, int(rows * scale)), max(2, int(columns * scale))
        tall, wide = min(tall, height), min(wide, width)
        top, left = int(draw.between(0, height - tall + 1)), int(draw.between(0, width - wide + 1))
        cut = cv2.resize(image[top : top + tall, left : left + wide], (columns, rows), interpolation=cv2.INTER_AREA)
        grey = cut.astype(np.float32) - np.float32(round(float(cut.mean())))
        strength = max(float(np.abs(grey).mean()), 4.0)
        return np.clip(grey * np.float32(0.4 / strength), -1.5, 1.5)


@cache
def _read_all(folder: str) -> tuple[np.ndarray, ...]:
    """The images' grey values, uint8 [H, W]. Raises InputError where the folder holds none that can be read."""
    root = Path(folder)
    paths = sorted(path for path in root.glob("*") if path.suffix.lower() in _IMAGES) if root.is_dir() else []
    if not paths:
        raise InputError(f"no images in {folder!r}; textures is a folder that holds {', '.join(_IMAGES)} files")
    read = []
    for path in paths[:_MOST]:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if image is None or min(image.shape) < 16:
            raise InputError(f"{path} cannot be read as an image of at least 16 pixels a side; take it out of textures")
        scale = min(1.0, _LONG_SIDE / max(image.shape))
        size = max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale))
        read.append(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return tuple(read)
