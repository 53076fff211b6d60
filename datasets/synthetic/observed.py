"""What may be known of a world when its sentences are judged: small rendered masks, and tracks measured from them.

Masks are drawn at `ROWS` pixels a height at the judged moments: what is visible within the frame, and each thing whole,
on a canvas that is wider than the frame by a margin, so that a thing cut by the border has its true place and size.
The generator's paths, motions and camera are not in here; looks are labels of things, as a data set's categories are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from .shapes import REACH, distance
from .world import MOMENTS, World

ROWS = 48  # pixels that a height is drawn with
MARGIN = 14  # pixels of the canvas on every side of the frame


@dataclass(frozen=True)
class Named:
    """The words for a thing that need no measuring."""

    id: int
    shape: str
    colour: str
    texture: str


@dataclass(frozen=True)
class Observed:
    """Masks of one video at T judged moments.

    whole_NTHW: each thing on its own, bool, on the canvas of the frame and its margin. labels_THW: the id of what each
    pixel of the frame shows, 0 for anything that is not a thing, uint8.
    """

    things: tuple[Named, ...]
    whole_NTHW: np.ndarray
    labels_THW: np.ndarray

    @property
    def moments(self) -> int:
        return int(self.whole_NTHW.shape[1])

    def reversed(self) -> Observed:
        """The same video played backwards."""
        return Observed(self.things, self.whole_NTHW[:, ::-1], self.labels_THW[::-1])

    def still(self, moment: int) -> Observed:
        """One frame on its own and the things that can be seen in it: nothing tells of time."""
        ids = set(np.unique(self.labels_THW[moment]).tolist())
        shown = [order for order, thing in enumerate(self.things) if thing.id in ids]
        things = tuple(self.things[order] for order in shown)
        return Observed(things, self.whole_NTHW[shown][:, [moment]], self.labels_THW[[moment]])

    @cached_property
    def tracks(self) -> Tracks:
        """Measured once, from the masks alone."""
        return _measure(self)


@dataclass(frozen=True)
class Tracks:
    """What masks say of each thing at each moment; lengths in heights.

    centre_NT2: x, y of the whole mask's middle, NaN where none of it is on the canvas. radius_NT: the size that gives a
    thing of its shape this area, NaN likewise. seen_NT: visible share of the whole mask. gone_NT: no pixel of the whole
    mask lies within the frame.
    """

    centre_NT2: np.ndarray
    radius_NT: np.ndarray
    seen_NT: np.ndarray
    gone_NT: np.ndarray


def observe(world: World) -> Observed:
    """Render what the verifier sees of a world."""
    rows, columns = ROWS + 2 * MARGIN, round(ROWS * world.aspect) + 2 * MARGIN
    u_T = np.linspace(0.0, 1.0, MOMENTS)
    poses = world.poses(u_T).astype(np.float32)
    whole_NP = np.zeros((len(world.things), MOMENTS * rows * columns), bool)
    labels_P = np.zeros(MOMENTS * rows * columns, np.uint8)
    for thing, pose, canvas_P in zip(world.things, poses, whole_NP, strict=True):
        pixels = _covered(thing.shape, pose, rows, columns)
        canvas_P[pixels] = True
        labels_P[pixels] = thing.id
    named = tuple(Named(thing.id, thing.shape, thing.colour, thing.texture) for thing in world.things)
    labels_THW = labels_P.reshape(MOMENTS, rows, columns)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    if world.occluders:
        _hide(world, u_T, labels_THW)
    return Observed(named, whole_NP.reshape(len(named), MOMENTS, rows, columns), labels_THW)


def _covered(shape: str, pose: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Pixels [P] of the canvases of all moments that a thing of pose [6, T] covers, by one window that goes with it."""
    x, y, radius, cosine, sine, wide = pose
    half = int(np.ceil(REACH * radius.max() * ROWS)) + 1
    offsets = np.arange(-half, half + 1, dtype=np.float32)
    top, left = np.floor(y * np.float32(ROWS)), np.floor(x * np.float32(ROWS))
    dy = ((top - y * np.float32(ROWS) + np.float32(0.5))[:, None] + offsets) / (radius * np.float32(ROWS))[:, None]
    dx = ((left - x * np.float32(ROWS) + np.float32(0.5))[:, None] + offsets) / (radius * np.float32(ROWS))[:, None]
    along_x = (cosine[:, None] * dx)[:, None, :] + (sine[:, None] * dy)[:, :, None]
    along_y = (cosine[:, None] * dy)[:, :, None] - (sine[:, None] * dx)[:, None, :]
    inside = np.flatnonzero(distance(shape, along_x / wide[:, None, None], along_y) < 0)
    moment, place = np.divmod(inside, len(offsets) ** 2)
    row, column = np.divmod(place, len(offsets))
    row += top.astype(int)[moment] + (MARGIN - half)
    column += left.astype(int)[moment] + (MARGIN - half)
    on = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    return ((moment * rows + row) * columns + column)[on]


def _hide(world: World, u_T: np.ndarray, labels_THW: np.ndarray) -> None:
    """Take away what lies behind the occluders."""
    y = ((np.arange(labels_THW.shape[1]) + 0.5) / ROWS).astype(np.float32)[:, None]
    x = ((np.arange(labels_THW.shape[2]) + 0.5) / ROWS).astype(np.float32)[None, :]
    discs = world.occluder_discs(u_T).astype(np.float32)[..., None, None]
    for occluder in world.occluders:
        own, discs = discs[: len(occluder.discs)], discs[len(occluder.discs) :]
        labels_THW[occluder.distance(own, x, y) < 0] = 0


def _measure(observed: Observed) -> Tracks:
    count, moments, rows, columns = observed.whole_NTHW.shape
    pixels = np.flatnonzero(observed.whole_NTHW)
    frame, pixel = np.divmod(pixels, rows * columns)
    row, column = np.divmod(pixel, columns)
    frames = count * moments
    area = np.bincount(frame, minlength=frames).astype(np.float64)
    full = np.where(area > 0, area, np.nan)
    centre = np.stack([np.bincount(frame, where, frames) / full for where in (column, row)], axis=-1)
    within = (row >= MARGIN) & (row < rows - MARGIN) & (column >= MARGIN) & (column < columns - MARGIN)
    inside = np.bincount(frame[within], minlength=frames)
    ids = np.array([thing.id for thing in observed.things], np.uint8)
    visible_NT = _count_labels(observed.labels_THW)[:, ids].T
    # The longest axis of the spread: a thing that turns about its upright axis gets narrower, not smaller.
    x, y = column - centre[frame, 0], row - centre[frame, 1]
    xx, yy, xy = (np.bincount(frame, product, frames) / full for product in (x * x, y * y, x * y))
    spread = (xx + yy) / 2 + np.sqrt((xx - yy) ** 2 / 4 + xy * xy)
    units = np.array([_unit_spread(thing.shape) for thing in observed.things])
    return Tracks(
        centre_NT2=((centre + 0.5 - MARGIN) / ROWS).reshape(count, moments, 2),
        radius_NT=np.sqrt(spread.reshape(count, moments) / units[:, None]) / ROWS,
        seen_NT=np.nan_to_num(visible_NT / full.reshape(count, moments)),
        gone_NT=(inside == 0).reshape(count, moments),
    )


def _count_labels(labels_THW: np.ndarray) -> np.ndarray:
    """Pixels of each id at each moment, int [T, 256]."""
    moments = len(labels_THW)
    keys = labels_THW.reshape(moments, -1) + (np.arange(moments) * 256)[:, None]
    return np.bincount(keys.ravel(), minlength=256 * moments).reshape(moments, 256)


@cache
def _unit_spread(shape: str) -> float:
    """Variance of x (as of y: all shapes are as wide as high in this sense) over the unit shape."""
    axis = np.arange(-REACH, REACH, 1 / 64, dtype=np.float32) + np.float32(1 / 128)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    inside = distance(shape, x, y) < 0
    return float(np.float64(x[inside]).var() + np.float64(y[inside]).var()) / 2
