"""Ways that things go: a start and a profile of displacements from it, so that two things can exchange their motions.

A profile is knots (u, dx, dy, size factor), joined by straight lines whose corners are rounded a little in time. It
says nothing of where the thing starts: the first frame is the same whichever profile is followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .draw import Draw

Profile = tuple[tuple[float, float, float, float], ...]

# Positions are means over this much of the video, which is how quickly a thing starts, stops or turns.
_SOFT = 0.035
_TAPS = np.linspace(-_SOFT / 2, _SOFT / 2, 5)


@dataclass(frozen=True)
class Route:
    """From `start` (x, y in heights) along a profile."""

    start: tuple[float, float]
    profile: Profile

    def at(self, u_T: np.ndarray) -> np.ndarray:
        """x, y and size factor at each moment, float64 [3, T]; (start, 1) at u = 0."""
        offset, factor = self._begun
        pose = self._smooth(u_T) * factor
        pose += offset
        return pose

    def _smooth(self, u_T: np.ndarray) -> np.ndarray:
        knots = self._knots
        moments = np.add.outer(u_T, _TAPS).ravel()
        rows = np.empty((3, len(moments)))
        for row, values in zip(rows, knots[1:], strict=True):
            row[:] = np.interp(moments, knots[0], values)
        return rows.reshape(3, -1, len(_TAPS)).sum(axis=2) / len(_TAPS)

    @cached_property
    def _knots(self) -> np.ndarray:
        return np.ascontiguousarray(np.asarray(self.profile, dtype=np.float64).T)

    @cached_property
    def _begun(self) -> tuple[np.ndarray, np.ndarray]:
        """What is added to the smoothed profile and what it is multiplied by, [3, 1] each."""
        first = self._smooth(np.zeros(1))
        offset = np.array([[self.start[0] - first[0, 0]], [self.start[1] - first[1, 0]], [0.0]])
        return offset, np.array([[1.0], [1.0], [1.0 / first[2, 0]]])


def profile(*knots: Sequence[float]) -> Profile:
    """Knots (u, dx, dy) or (u, dx, dy, size factor), after the one at rest that every profile begins with."""
    return (
        (0.0, 0.0, 0.0, 1.0),
        *((float(u), float(x), float(y), float(rest[0]) if rest else 1.0) for u, x, y, *rest in knots),
    )


def extent(*profiles: Profile) -> tuple[float, float, float, float]:
    """How far the profiles go: least and greatest dx, least and greatest dy, all relative to the start."""
    knots = np.concatenate([np.asarray(one) for one in profiles])
    x, y = knots[:, 1], knots[:, 2]
    return float(x.min()), float(x.max()), float(y.min()), float(y.max())


def mirrored(one: Profile, side: int) -> Profile:
    """The same to the left where `side` is -1."""
    return tuple((u, side * x, y, size) for u, x, y, size in one)


def going(draw: Draw, wide: float, axis: int, sign: int) -> Profile:
    """A steady way along an axis (0: x, 1: y) from the first moment to the last."""
    far = draw.between(0.42, 0.55) * wide if axis == 0 else draw.between(0.36, 0.4)
    return profile((1, sign * far, 0) if axis == 0 else (1, 0, sign * far))


def _still(draw: Draw, wide: float) -> Profile:
    return profile((1, 0, 0))


def _stops(draw: Draw, wide: float) -> Profile:
    when, far = draw.between(0.4, 0.52), draw.sign() * draw.between(0.4, 0.5) * wide
    return profile((when, far, 0), (1, far, 0))


def _starts(draw: Draw, wide: float) -> Profile:
    when, far = draw.between(0.42, 0.55), draw.sign() * draw.between(0.4, 0.5) * wide
    return profile((when, 0, 0), (1, far, 0))


def _turns_back(draw: Draw, wide: float) -> Profile:
    when, far = draw.between(0.45, 0.55), draw.sign() * draw.between(0.38, 0.48) * wide
    return profile((when, far, 0), (1, draw.between(-0.04, 0.04), 0))


def _corner(draw: Draw, wide: float) -> Profile:
    across, down = draw.sign() * draw.between(0.36, 0.45) * wide, draw.sign() * draw.between(0.32, 0.36)
    when = draw.between(0.48, 0.58)
    return profile((when, across, 0), (1, across, down))


def _zigzag(draw: Draw, wide: float) -> Profile:
    far, legs = draw.sign() * draw.between(0.5, 0.6) * wide, draw.pick((4, 5))
    swing = draw.sign() * draw.between(0.13, 0.16)
    turns = [(leg / legs, far * leg / legs, swing * (leg % 2)) for leg in range(1, legs + 1)]
    return profile(*turns)


def circle(draw: Draw, turns: float) -> Profile:
    """Around a point beside the start, `turns` times."""
    radius, first, way = draw.between(0.12, 0.15), draw.between(0, 2 * np.pi), draw.sign()
    steps = int(np.ceil(16 * turns))
    angles = first + way * 2 * np.pi * turns * np.arange(steps + 1) / steps
    x, y = radius * (np.cos(angles) - np.cos(first)), radius * (np.sin(angles) - np.sin(first))
    return profile(*zip(np.arange(1, steps + 1) / steps, x[1:], y[1:], strict=True))


def _grows(draw: Draw, wide: float) -> Profile:
    return profile((1, draw.between(-0.03, 0.03), draw.between(-0.03, 0.03), draw.between(1.75, 1.95)))


def _shrinks(draw: Draw, wide: float) -> Profile:
    return profile((1, draw.between(-0.03, 0.03), draw.between(-0.03, 0.03), draw.between(0.52, 0.57)))


Act = Callable[[Draw, float], Profile]

# What one thing can do on its own; `wide` shrinks ways across a narrow frame.
ACTS: dict[str, Act] = {
    "still": _still,
    "left": lambda draw, wide: going(draw, wide, 0, -1),
    "right": lambda draw, wide: going(draw, wide, 0, 1),
    "up": lambda draw, wide: going(draw, wide, 1, -1),
    "down": lambda draw, wide: going(draw, wide, 1, 1),
    "circling": lambda draw, wide: circle(draw, draw.between(1.3, 1.8)),
    "stopping": _stops,
    "starting": _starts,
    "turning back": _turns_back,
    "turning a corner": _corner,
    "zigzag": _zigzag,
    "approaching": _grows,
    "receding": _shrinks,
}
