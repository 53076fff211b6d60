"""Lives of several phases, for long videos: going, waiting, circling, leaving and coming back, in any order."""

from __future__ import annotations

from .draw import Draw
from .events import Part, exchanged, outside, spots
from .layout import Stage
from .paths import Profile, circle, extent, profile

# From every start that lies in the picture, this many heights up or down lead out of it.
_AWAY = 0.9
_PHASES = {"waits": 1.0, "left": 1.0, "right": 1.0, "up": 0.8, "down": 0.8, "circles": 0.7, "is away": 0.9}
# The share of a phase that it takes to get there; then the thing rests, so that phases do not run into each other.
_MOVING = 0.75


def timelines(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """Each has a life of its own, and all of them fit from every start."""
    lives = [_life(draw, stage, radius) for _ in range(count)]
    box = extent(*(_within(way) for _, way in lives))
    starts = spots(draw, stage, radius, count, box)
    return exchanged(draw, [name for name, _ in lives], [way for _, way in lives], starts)


def _life(draw: Draw, stage: Stage, radius: float) -> tuple[str, Profile]:
    """Its name and profile: five or six phases, the same one never twice in a row, away at most once."""
    number = draw.pick((5, 6))
    x = y = 0.0
    names: list[str] = []
    phases: list[tuple[int, list[tuple[float, float, float]]]] = []
    for _ in range(number):
        name = draw.pick(*_possible(names, x, y, stage.wide))
        names.append(name)
        if name == "circles":
            knots = [(u, x + dx, y + dy) for u, dx, dy, _ in circle(draw, turns=1.0)]
        elif name == "is away":
            far = y + draw.sign() * (_AWAY + outside(stage, radius))
            knots = [(0.35, x, far), (0.65, x, far)]
        else:
            knots = []
            x += {"left": -1, "right": 1}.get(name, 0) * draw.between(0.3, 0.38) * stage.wide
            y += {"up": -1, "down": 1}.get(name, 0) * draw.between(0.24, 0.28)
        # Leaving and coming back takes as long as two other phases.
        phases.append((2 if name == "is away" else 1, [*knots, (1.0, x, y)]))
    whole = sum(length for length, _ in phases)
    done = 0
    placed: list[tuple[float, float, float]] = []
    for length, knots in phases:
        placed += [((done + _MOVING * length * part) / whole, x, y) for part, x, y in knots]
        done += length
        placed.append((done / whole, knots[-1][1], knots[-1][2]))
    return ", ".join(names), profile(*placed)


def _within(way: Profile) -> Profile:
    """The knots at which a thing is not meant to be away."""
    return tuple(knot for knot in way if abs(knot[2]) < _AWAY)


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
