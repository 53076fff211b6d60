"""Drawing worlds at random: looks in which every thing has a look-alike, paths for each motion, places with room.

Only uniform draws of a seeded generator are used, in a fixed order, so a seed means the same world on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .draw import Draw
from .shapes import REACH, SHAPES
from .world import Camera, Path, Thing, World

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
TEXTURES = ("plain", "striped", "dotted", "checkered")
SIZES = {"small": (0.1, 0.118), "large": (0.16, 0.195)}  # radius in heights
MOTIONS = ("still", "left", "right", "up", "down", "circling", "approaching", "receding", "late", "returning")

_WEIGHTS = {"still": 1.2, "left": 1.2, "right": 1.2, "up": 0.8, "down": 0.8, "circling": 0.8}
_WEIGHTS |= {"approaching": 0.8, "receding": 0.6}
_PLACES = 3  # candidate paths per thing, of which the freest is taken
_ROOM = 0.4  # overlap with the things already placed that is accepted at once: some occlusion is wanted


@dataclass(frozen=True)
class Look:
    """What a thing looks like, whatever it does."""

    shape: str
    colour: str
    texture: str
    size: str


@dataclass(frozen=True)
class Stage:
    """The room for paths: the frame's width in heights, and how far the camera may carry the view."""

    aspect: float
    camera: float

    @property
    def wide(self) -> float:
        """Shrinks ways across a frame that is narrow for them."""
        return min(1.0, self.aspect / 1.6)


def draw_world(draw: Draw, aspect: float, things: int, *, twins: bool, late: bool, returning: bool) -> World:
    """A world of `things` objects, each sharing its colour, its shape or both with another.

    twins: two of them look the same in everything. late: one enters late. returning: one leaves and comes back.
    """
    pan = draw.between(-0.065, 0.065), draw.between(-0.03, 0.03)
    camera = Camera(pan, sway=draw.between(0.0, 0.012), phase=draw.between(0, 2 * np.pi))
    stage = Stage(aspect, camera.reach)
    looks = _draw_looks(draw, things, twins)
    motions = _draw_motions(draw, things, ["late"] * late + ["returning"] * returning)
    moments = np.linspace(0.0, 1.0, 13)
    placed: list[tuple[np.ndarray, float]] = []
    made: list[Thing] = []
    # Long journeys find their place more easily while the stage is empty.
    for name, look in sorted(zip(motions, looks, strict=True), key=lambda pair: pair[0] == "still"):
        radius = _draw_radius(draw, look.size, name)
        path = _place(draw, stage, name, radius, moments, placed)
        placed.append((path.at(moments), radius))
        spin = 0.0 if name == "still" else draw.between(-1.2, 1.2)
        angle = draw.between(-0.35, 0.35)
        made.append(Thing(0, look.shape, look.colour, look.texture, radius, angle, spin, name, path))
    order = draw.some(made, things)
    ids = draw.some(range(1, things + 1), things)
    return World(aspect, tuple(replace(thing, id=id_) for thing, id_ in zip(order, ids, strict=True)), camera)


def _draw_looks(draw: Draw, things: int, twins: bool) -> list[Look]:
    """From few shapes, colours and textures, each look copies the shape, the colour or both of an earlier one."""
    shapes = draw.some(SHAPES, draw.pick((2, 3)))
    colours = draw.some(COLOURS, draw.pick((2, 3)))
    textures = draw.some(TEXTURES, 2 if draw.chance(0.7) else 3)
    # The first copies take the shape once and the colour once, so that neither word alone usually suffices.
    shares = draw.some(("shape", "colour"), 2)
    looks: list[Look] = []
    for number in range(things):
        look = Look(shapes[0], colours[0], draw.pick(textures), draw.pick(tuple(SIZES)))
        if twins and number == 1:
            look = looks[0]
        elif looks:
            other = draw.pick(looks)
            shared = shares.pop() if shares else draw.pick(("shape", "colour", "both"))
            shape = draw.pick([shape for shape in shapes if shape != other.shape])
            colour = draw.pick([colour for colour in colours if colour != other.colour])
            look = replace(
                look,
                shape=shape if shared == "colour" else other.shape,
                colour=colour if shared == "shape" else other.colour,
            )
        looks.append(look)
    return looks


def _draw_motions(draw: Draw, things: int, wanted: list[str]) -> list[str]:
    """Mostly different motions, the first two always; now and then one twice, so that looks matter beside motion."""
    motions = wanted[:things]
    while len(motions) < things:
        fresh = [name for name in _WEIGHTS if name not in motions]
        name = draw.pick(fresh, [_WEIGHTS[name] for name in fresh])
        common = [name for name in motions if name in _WEIGHTS]
        if len(motions) > 1 and common and draw.chance(0.3):
            name = draw.pick(common)
        motions.append(name)
    motions = draw.some(motions, things)
    if motions[0] == motions[1]:
        other = next(number for number, name in enumerate(motions) if name != motions[0])
        motions[1], motions[other] = motions[other], motions[1]
    return motions


def _draw_radius(draw: Draw, size: str, motion: str) -> float:
    if motion in ("approaching", "receding"):
        return draw.between(0.095, 0.11)
    return draw.between(*SIZES[size])


def _place(
    draw: Draw, stage: Stage, motion: str, radius: float, moments: np.ndarray, placed: list[tuple[np.ndarray, float]]
) -> Path:
    """The first of a few drawn paths that has room among the placed things, else the one with most."""
    best, least = None, float("inf")
    for _ in range(_PLACES):
        path = _PATHS[motion](draw, stage, radius)
        covered = overlap(path.at(moments), radius, placed)
        if covered < least:
            best, least = path, covered
        if least < _ROOM:
            break
    assert best is not None
    return best


def overlap(pose: np.ndarray, radius: float, placed: list[tuple[np.ndarray, float]]) -> float:
    """How deep the things lie in one another, in radii of the smaller, on average over time; summed over the others."""
    total = 0.0
    for other, other_radius in placed:
        mine, theirs = radius * pose[2], other_radius * other[2]
        apart = np.sqrt((pose[0] - other[0]) ** 2 + (pose[1] - other[1]) ** 2)
        total += float(np.mean(np.maximum(mine + theirs - apart, 0.0) / np.minimum(mine, theirs)))
    return total


def _spot(draw: Draw, stage: Stage, room: float) -> tuple[float, float]:
    """A point at least `room` from every border, or the middle where there is none."""
    room_x, room_y = min(room, stage.aspect / 2), min(room, 0.5)
    return draw.between(room_x, stage.aspect - room_x), draw.between(room_y, 1 - room_y)


def _still(draw: Draw, stage: Stage, radius: float) -> Path:
    x, y = _spot(draw, stage, radius * 0.95)
    return Path(((0.0, x, y, 1.0),))


def _across(axis: int, direction: int) -> Callable[[Draw, Stage, float], Path]:
    """A straight way over at least 0.4 heights along an axis (0: x, 1: y), growing or shrinking a little."""

    def path(draw: Draw, stage: Stage, radius: float) -> Path:
        extent = stage.aspect if axis == 0 else 1.0
        low, high = 0.8 * radius, extent - 0.8 * radius
        length = draw.between(0.4, max(0.4, min(0.9, high - low)))
        start = draw.between(low, max(low, high - length))
        ends = (start, start + length)[::direction]
        x, y = _spot(draw, stage, radius * 0.9)
        across = x if axis == 1 else y
        limit = (1.0 if axis == 0 else stage.aspect) - 0.8 * radius
        drifted = min(max(across + draw.between(-0.1, 0.1), 0.8 * radius), limit)
        first, last = (ends[0], across), (ends[1], drifted)
        if axis == 1:
            first, last = first[::-1], last[::-1]
        return Path(((0.0, *first, 1.0), (1.0, *last, draw.between(0.93, 1.07))))

    return path


def _circling(draw: Draw, stage: Stage, radius: float) -> Path:
    orbit = draw.between(0.13, 0.2)
    x, y = _spot(draw, stage, orbit + radius * 0.8)
    return Path(((0.0, x, y, 1.0),), (orbit, draw.sign() * draw.between(1.0, 1.6), draw.between(0.0, 2 * np.pi)))


def _growing(forward: bool) -> Callable[[Draw, Stage, float], Path]:
    def path(draw: Draw, stage: Stage, radius: float) -> Path:
        factor = draw.between(1.75, 2.05)
        x, y = _spot(draw, stage, radius * factor * 0.9)
        scales = (1.0, factor)[:: 1 if forward else -1]
        last = x + draw.between(-0.03, 0.03), y + draw.between(-0.03, 0.03)
        return Path(((0.0, x, y, scales[0]), (1.0, *last, scales[1])))

    return path


def _outside(draw: Draw, stage: Stage, radius: float, inside: tuple[float, float]) -> tuple[float, float]:
    """A point beyond the border nearest to `inside`, from where nothing of the thing can be seen."""
    x, y = inside
    far = radius * REACH + stage.camera + 0.03
    drift = draw.between(-0.08, 0.08)
    ways = (
        (x, (-far, y + drift)),
        (stage.aspect - x, (stage.aspect + far, y + drift)),
        (y, (x + drift, -far)),
        (1 - y, (x + drift, 1 + far)),
    )
    return min(ways)[1]


def _late(draw: Draw, stage: Stage, radius: float) -> Path:
    spot = _spot(draw, stage, radius)
    outside = _outside(draw, stage, radius, spot)
    enters = draw.between(0.2, 0.4)
    arrives = enters + draw.between(0.2, 0.3)
    return Path(((0.0, *outside, 1.0), (enters, *outside, 1.0), (arrives, *spot, 1.0)))


def _returning(draw: Draw, stage: Stage, radius: float) -> Path:
    spot, again = _spot(draw, stage, radius), _spot(draw, stage, radius)
    outside = _outside(draw, stage, radius, spot)
    leaves, gone = draw.between(0.1, 0.2), draw.between(0.36, 0.42)
    returns = gone + draw.between(0.15, 0.22)
    knots = ((0.0, *spot), (leaves, *spot), (gone, *outside), (returns, *outside), (returns + 0.22, *again))
    return Path(tuple((*knot, 1.0) for knot in knots))


_PATHS: dict[str, Callable[[Draw, Stage, float], Path]] = {
    "still": _still,
    "left": _across(0, -1),
    "right": _across(0, 1),
    "up": _across(1, -1),
    "down": _across(1, 1),
    "circling": _circling,
    "approaching": _growing(True),
    "receding": _growing(False),
    "late": _late,
    "returning": _returning,
}
