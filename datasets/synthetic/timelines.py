"""Lives of several phases, for long videos: going, waiting, circling, leaving and coming back, in any order."""

from __future__ import annotations

from .draw import Draw
from .events import Part, exchanged, outside, spots
from .layout import Stage
from .paths import Profile, circle, profile

# How far from its start a thing goes, in heights across and down, other than to leave.
_ACROSS, _DOWN = 0.42, 0.28
_PHASES = {"waits": 1.0, "left": 1.0, "right": 1.0, "up": 0.8, "down": 0.8, "circles": 0.7, "is away": 0.9}
# The share of a phase that it takes to get there; then the thing rests, so that phases do not run into each other.
_MOVING = 0.75


def timelines(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """Each has a life of its own, and all of them fit from every start."""
    lives = [_life(draw, stage, radius) for _ in range(count)]
    across = _ACROSS * stage.wide
    starts = spots(draw, stage, radius, count, (-across, across, -_DOWN, _DOWN))
    return exchanged(draw, [name for name, _ in lives], [way for _, way in lives], starts)


def _life(draw: Draw, stage: Stage, radius: float) -> tuple[str, Profile]:
    """Five or six phases of about the same length; the same one never twice in a row, and away at most once."""
    number = draw.pick((5, 6))
    x = y = 0.0
    knots: list[tuple[float, float, float]] = []
    names: list[str] = []
    for order in range(number):
        begin, end = order / number, (order + _MOVING) / number
        name = draw.pick(*_possible(names, x, y, stage.wide))
        names.append(name)
        if name == "circles":
            orbit = circle(draw, begin, end, 1.0)
            knots += [(u, x + dx, y + dy) for u, dx, dy, _ in orbit if u > 0]
        elif name == "is away":
            far = draw.sign() * (0.72 + outside(stage, radius))
            third = (end - begin) / 3
            knots += [(begin + third, x, y + far), (begin + 2.3 * third, x, y + far)]
        else:
            step = {"left": -1, "right": 1}.get(name, 0), {"up": -1, "down": 1}.get(name, 0)
            x += step[0] * draw.between(0.3, 0.38) * stage.wide
            y += step[1] * draw.between(0.24, 0.28)
        knots += [(end, x, y), ((order + 1) / number, x, y)]
    return ", ".join(names), profile(*knots)


def _possible(names: list[str], x: float, y: float, wide: float) -> tuple[list[str], list[float]]:
    """Phases that may come next, with their weights: none leads too far from the start."""
    barred = {names[-1]} if names else {"waits"}
    if "is away" in names:
        barred.add("is away")
    # A step that would lead out of the box is barred, so that a way in one direction is followed by the way back.
    barred |= {"left"} if x < -0.1 * wide else set()
    barred |= {"right"} if x > 0.1 * wide else set()
    barred |= {"up"} if y < 0 else set()
    barred |= {"down"} if y > 0 else set()
    free = [name for name in _PHASES if name not in barred]
    return free, [_PHASES[name] for name in free]
