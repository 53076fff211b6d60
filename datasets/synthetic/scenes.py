"""Worlds of each split: which events they hold, which things look alike, and places where all of it can be seen.

A recipe names casts, events with how many things take part and whether these are identical; what is left of the video's
things does something on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from . import events
from .draw import Draw
from .layout import COLOURS, TEXTURES, Look, Stage, overlap
from .paths import ACTS, Route, extent
from .shapes import SHAPES
from .timelines import timelines
from .world import Camera, Thing, World

Split = Literal["easy", "twins", "late", "reentry", "swap", "crowd", "long", "no_target", "mixed"]
SPLITS: tuple[Split, ...] = tuple(name for name in get_args(Split) if name != "mixed")


def usual_frames(split: Split | None) -> int:
    """Frames that show a video of the split well: in a long one things do several things after each other."""
    return 96 if split == "long" else 24


# Radius in heights. In a crowd everything is a little smaller.
_SIZES = {"small": (0.102, 0.116), "large": (0.15, 0.17)}
_CROWD_SIZES = {"small": (0.096, 0.104), "large": (0.132, 0.146)}
_PLACES = 5  # candidates for where an event takes place, of which the freest is taken
_ATTEMPTS = 6  # scenes drawn before the one in which most can be seen is taken
_MOMENTS = np.linspace(0.0, 1.0, 13)
_ROOM = 0.3  # overlap with the things already placed that is accepted at once: some occlusion is wanted

_FILLERS = {"still": 1.4, "left": 1.0, "right": 1.0, "up": 0.8, "down": 0.8, "circling": 0.8, "stopping": 0.7}
_FILLERS |= {"starting": 0.7, "turning back": 0.7, "zigzag": 0.6, "turning a corner": 0.6}
_SIZED = {"approaching": 0.8, "receding": 0.6}  # only where nothing is told apart by what it does
_GROWING = {"approaching": "small", "receding": "large"}  # so that nothing ends too small to be seen


@dataclass(frozen=True)
class Cast:
    """An event and how many things take part.

    alike: they look the same in everything. as_first: they also look like the first cast's. size: where the event needs
    small or large things.
    """

    event: events.Event
    count: int
    alike: bool = True
    as_first: bool = False
    size: str = ""


def draw_scene(draw: Draw, split: Split, aspect: float, count: int) -> World:
    """A world of a split (any but "mixed") with `count` things, or with 7 or 8 where the split is a crowd.

    no_target has the events of any of the others.
    """
    if split == "no_target":
        split = draw.pick([name for name in SPLITS if name != "no_target"])
    if split == "crowd":
        count = draw.pick((7, 8))
    best, most = None, -1.0
    for _ in range(_ATTEMPTS):
        world = _draw_once(draw, split, aspect, count)
        shown = well_seen(world)
        if shown > most:
            best, most = world, shown
        if most == 1.0:
            break
    assert best is not None
    return best


def _draw_once(draw: Draw, split: Split, aspect: float, count: int) -> World:
    pan = draw.between(-0.045, 0.045), draw.between(-0.02, 0.02)
    camera = Camera(pan, sway=draw.between(0.0, 0.008), phase=draw.between(0, 2 * np.pi))
    stage = Stage(aspect, camera.reach)
    casts = _cast(draw, split, count)
    sizes = _CROWD_SIZES if split == "crowd" else _SIZES
    things: list[Thing] = []
    radius = angle = 0.0
    for cast, looks in zip(casts, _draw_looks(draw, casts, distinct=split == "easy"), strict=True):
        if not cast.as_first:
            small = cast.event in _ROOMY or cast.count > 2 or split == "long"
            size = cast.size or ("small" if small else draw.pick(("small", "large"), (2, 1)))
            radius = draw.between(*sizes[size])
            angle = draw.between(-0.35, 0.35)
        parts = _freest(draw, stage, cast, radius, things)
        for part, look in zip(parts, looks, strict=True):
            route, instead = Route(part.start, part.way), Route(part.start, part.instead)
            named = look.shape, look.colour, look.texture
            things.append(Thing(0, *named, radius, angle, 0.0, part.motion, route, instead))
    order = draw.some(things, count)
    ids = draw.some(range(1, count + 1), count)
    return World(aspect, tuple(replace(thing, id=id_) for thing, id_ in zip(order, ids, strict=True)), camera)


def _cast(draw: Draw, split: Split, count: int) -> list[Cast]:
    """The casts of a split, and something on its own for each thing that is left."""
    casts = _RECIPES[split](draw, count)
    fillers = _FILLERS | _SIZED if split == "easy" else _FILLERS
    while sum(cast.count for cast in casts) < count:
        name = draw.pick(tuple(fillers), tuple(fillers.values()))
        casts.append(Cast(timelines, 1) if split == "long" else Cast(_alone(name), 1, size=_GROWING.get(name, "")))
    return casts


def _alone(name: str) -> events.Event:
    def event(draw: Draw, stage: Stage, radius: float, count: int) -> list[events.Part]:
        way = ACTS[name](draw, stage.wide)
        start = events.spots(draw, stage, radius * max(knot[3] for knot in way), 1, extent(way))[0]
        return [events.Part(name, start, way, way)]

    return event


# Events whose ways need room: their things are small.
_ROOMY = (events.follows, events.overtakes, events.collides, events.crosses)


def _easy(draw: Draw, count: int) -> list[Cast]:
    return []


def _twins(draw: Draw, count: int) -> list[Cast]:
    three = 3 if count >= 4 and draw.chance(0.4) else 2
    event = draw.pick(
        (events.acts, events.speeds, events.stops, events.begins, events.follows, events.overtakes, events.collides),
        (4.0, 1.0, 1.2, 1.0, 1.0, 1.2, 1.2),
    )
    casts = [Cast(event, 2 if event in _ROOMY else three)]
    if count - casts[0].count >= 2 and draw.chance(0.5):
        casts.append(Cast(events.acts, 2))
    return casts


def _late(draw: Draw, count: int) -> list[Cast]:
    entering = 3 if count >= 4 and draw.chance(0.4) else 2 if count >= 3 else 1
    casts = [Cast(events.enters, entering, alike=draw.chance(0.65))]
    if count > entering and draw.chance(0.6):
        casts.append(Cast(_alone(draw.pick(tuple(_FILLERS))), 1, as_first=True))
    return casts


def _reentry(draw: Draw, count: int) -> list[Cast]:
    casts = [Cast(events.returns, 2, alike=draw.chance(0.75))]
    if count >= 5 and draw.chance(0.5):
        casts.append(Cast(events.leaves, 2, alike=draw.chance(0.5)))
    return casts


def _swap(draw: Draw, count: int) -> list[Cast]:
    casts = [Cast(events.exchanges, 2)]
    if count >= 4 and draw.chance(0.4):
        casts.append(Cast(events.crosses, 2, alike=draw.chance(0.5)))
    return casts


def _crowd(draw: Draw, count: int) -> list[Cast]:
    event = draw.pick((events.follows, events.overtakes, events.collides, events.crosses, events.stops, events.begins))
    return [Cast(events.acts, 3), Cast(event, 2, alike=draw.chance(0.6))]


def _long(draw: Draw, count: int) -> list[Cast]:
    return [Cast(timelines, 3 if count >= 5 and draw.chance(0.4) else 2)]


_RECIPES: dict[Split, Callable[[Draw, int], list[Cast]]] = {
    "easy": _easy,
    "twins": _twins,
    "late": _late,
    "reentry": _reentry,
    "swap": _swap,
    "crowd": _crowd,
    "long": _long,
}


def _draw_looks(draw: Draw, casts: list[Cast], *, distinct: bool) -> list[list[Look]]:
    """Looks of each cast's things: from few shapes and colours, so that one word rarely names one thing.

    Each look that is drawn anew shares the shape or the colour of an earlier one, in turn, and never both.
    """
    shapes = draw.some(SHAPES, 4 if distinct else 3)
    colours = draw.some(COLOURS, 4 if distinct else 3)
    textures = draw.some(TEXTURES, draw.pick((2, 3)))
    shared = draw.some(("shape", "colour"), 2)
    known: list[Look] = []
    groups: list[list[Look]] = []
    for cast in casts:
        if cast.as_first:
            groups.append([known[0]] * cast.count)
            continue
        group: list[Look] = []
        for _ in range(1 if cast.alike else cast.count):
            shape, colour = _new_pair(draw, shapes, colours, known, shared[len(known) % 2])
            group.append(Look(shape, colour, draw.pick(textures), ""))
            known.append(group[-1])
        groups.append(group * cast.count if cast.alike else group)
    return groups


def _new_pair(draw: Draw, shapes: list[str], colours: list[str], known: list[Look], shared: str) -> tuple[str, str]:
    """A shape and a colour that no known look has together, one of them a known look's where that is possible."""
    taken = {(look.shape, look.colour) for look in known}
    free = [(shape, colour) for shape in shapes for colour in colours if (shape, colour) not in taken]
    if known:
        other = draw.pick(known)
        near = [one for one in free if (one[0] == other.shape if shared == "shape" else one[1] == other.colour)]
        free = near or free
    return draw.pick(free)


def _freest(draw: Draw, stage: Stage, cast: Cast, radius: float, things: list[Thing]) -> list[events.Part]:
    """Of a few drawn places for an event, the one where its things lie least behind and in front of others."""
    placed = [(thing.path.at(_MOMENTS), thing.radius) for thing in things]
    best: list[events.Part] = []
    least = float("inf")
    for _ in range(_PLACES):
        parts = cast.event(draw, stage, radius, cast.count)
        cost, among = 0.0, list(placed)
        for part in parts:
            pose = Route(part.start, part.way).at(_MOMENTS)
            # What lies in each other at once cannot be told apart: it counts as if it lasted.
            cost += overlap(pose, radius, among) + 2 * overlap(pose[:, :1], radius, among)
            among.append((pose, radius))
        if cost < least:
            best, least = parts, cost
        if least < _ROOM * len(parts):
            break
    return best


def well_seen(world: World) -> float:
    """The share of things of which most can be seen in most of their time in the picture, and at the beginning."""
    good = 0
    for track in world.tracks.values():
        there = ~track.gone_T
        seen = track.seen_T[there] >= 0.5
        first = track.seen_T[0] >= 0.6 or bool(track.gone_T[0])
        good += bool(there.sum() >= 6 and seen.mean() >= 0.75 and first)
    return good / len(world.things)
