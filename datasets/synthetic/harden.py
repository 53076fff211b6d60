"""What makes a world hard to follow without changing what happens in it: camera, occluders, things that turn."""

from __future__ import annotations

from dataclasses import replace

from .draw import Draw
from .occluders import Occluder
from .scenes import well_seen
from .world import World

_TRIES = 4  # places drawn for an occluder, of which the first is taken that does not hide a thing for too long


def harden(draw: Draw, world: World) -> World:
    """The same things on the same ways, filmed by an unsteady, zooming camera, turning, and partly behind others."""
    camera = replace(world.camera, zoom=draw.between(-0.08, 0.08), shake=draw.between(0.0, 0.004))
    things = tuple(
        replace(
            thing,
            spin=thing.spin + draw.between(-0.9, 0.9),
            turn=(draw.between(0.08, 0.32), draw.between(0.5, 1.4), draw.between(0.0, 1.0)),
        )
        for thing in world.things
    )
    world = replace(world, camera=camera, things=things)
    for wanted in (0.7, 0.35):
        if draw.chance(wanted):
            world = _occluded(draw, world)
    return world


def _occluded(draw: Draw, world: World) -> World:
    shown = well_seen(world)
    for _ in range(_TRIES):
        make = _pillar if draw.chance(0.6) else _foliage
        hidden = replace(world, occluders=(*world.occluders, make(draw, world.aspect)))
        if well_seen(hidden) >= shown:
            return hidden
    return world


def _pillar(draw: Draw, aspect: float) -> Occluder:
    return Occluder("pillar", ((draw.between(0.15, aspect - 0.15), 0.5, draw.between(0.026, 0.05)),))


def _foliage(draw: Draw, aspect: float) -> Occluder:
    """A heap of leaves that grows from the top, the bottom or a side into the picture."""
    x, y = draw.pick(((draw.between(0, aspect), 0.0), (draw.between(0, aspect), 1.0), (0.0, 0.5), (aspect, 0.5)))
    discs = [
        (x + draw.between(-0.16, 0.16), y + draw.between(-0.13, 0.13), draw.between(0.04, 0.085)) for _ in range(9)
    ]
    return Occluder("foliage", tuple(discs))
