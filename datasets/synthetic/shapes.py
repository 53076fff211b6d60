"""The six outlines of the synthetic world as distance functions in their own unit coordinates.

A distance is negative inside, positive outside and near the edge grows by one per unit length, so that one function
gives the exact mask (negative), the antialiased coverage and the soft shadow. Only additions, products, square roots
and comparisons of float32 arrays are used: IEEE fixes their results, so a mask is the same on every machine.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")

# Farthest point of any shape from its centre, in its own units.
REACH = 1.25

_SQUARE = 0.88
_TRIANGLE_IN = 0.62  # radius of the inscribed circle; the corners lie at twice that
_STAR_TIP, _STAR_NOTCH = 1.22, 0.58
_CROSS_LONG, _CROSS_WIDE = 1.1, 0.42
_RING_MIDDLE, _RING_HALF = 0.8, 0.3


def distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance of the points (x right, y down; any equal shapes, float32) to the edge of `shape`."""
    if shape == "circle":
        return np.sqrt(x * x + y * y) - np.float32(1)
    if shape == "ring":
        return np.abs(np.sqrt(x * x + y * y) - np.float32(_RING_MIDDLE)) - np.float32(_RING_HALF)
    x = np.abs(x)
    if shape == "triangle":
        slope = x * np.float32(math.sqrt(3) / 2) - y * np.float32(0.5)
        return np.maximum(slope, y) - np.float32(_TRIANGLE_IN)
    if shape == "star":
        return _star(x, y)
    y = np.abs(y)
    if shape == "square":
        return np.maximum(x, y) - np.float32(_SQUARE)
    if shape == "cross":
        long, short = np.maximum(x, y), np.minimum(x, y)
        return np.maximum(long - np.float32(_CROSS_LONG), short - np.float32(_CROSS_WIDE))
    raise ValueError(f"unknown shape {shape!r}; the shapes are {', '.join(SHAPES)}")


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five-fold symmetry folds the plane onto one half point, where the star is a half-plane. `x` is not negative."""
    sector = math.pi / 5
    for side in (1, -1):
        nx, ny = np.float32(side * math.cos(sector)), np.float32(math.sin(sector))
        behind = np.float32(2) * np.maximum(x * nx + y * ny, np.float32(0))
        x, y = x - behind * nx, y - behind * ny
    x = np.abs(x)
    edge_x = _STAR_NOTCH * math.sin(sector)
    edge_y = _STAR_TIP - _STAR_NOTCH * math.cos(sector)
    length = math.hypot(edge_x, edge_y)
    normal_x, normal_y = np.float32(edge_y / length), np.float32(edge_x / length)
    return x * normal_x - (y + np.float32(_STAR_TIP)) * normal_y


@cache
def interior(shape: str) -> np.ndarray:
    """About fifty evenly spread points inside the shape, float32 [P, 2]: its area, sampled."""
    step = 0.2 if shape in ("ring", "star", "cross") else 0.25
    axis = np.arange(-1.3 + step / 2, 1.3, step, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    inside = distance(shape, x, y) < 0
    return np.stack([x[inside], y[inside]], axis=-1)


def limited(values: np.ndarray, low: float = 0, high: float = 1) -> np.ndarray:
    """Clips the values in place and returns them; on small arrays np.clip takes several times as long."""
    return np.minimum(np.maximum(values, low, out=values), high, out=values)
