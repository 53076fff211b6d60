"""A synthetic world: what is in it, where everything is at any moment, and what of it can be seen.

Lengths are fractions of the frame's height: y runs from 0 (top) to 1, x from 0 (left) to `aspect`. Time is u, 0 at the
first frame and 1 at the last, so a world has no resolution and no frame rate. Nothing here draws pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .shapes import REACH, distance, interior

# Moments at which sentences are judged. Enough for every motion; a video of 2,000 frames costs no more.
MOMENTS = 24


@dataclass(frozen=True)
class Path:
    """Where a thing goes: knots (u, x, y, size factor), eased between, plus an orbit (radius, turns, phase)."""

    knots: tuple[tuple[float, float, float, float], ...]
    orbit: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def at(self, u_T: np.ndarray) -> np.ndarray:
        """x, y and size factor at each moment, float64 [3, T]."""
        knots = np.asarray(self.knots, dtype=np.float64).T
        steps = np.arange(knots.shape[1], dtype=np.float64)
        along = np.interp(u_T, knots[0], steps)
        whole = np.floor(along)
        part = along - whole
        # Half linear, half smoothstep: soft starts and stops without a long standstill at either end.
        eased = whole + 0.5 * part + 0.5 * part * part * (3 - 2 * part)
        pose = np.stack([np.interp(eased, steps, row) for row in knots[1:]])
        radius, turns, phase = self.orbit
        if radius:
            angle = phase + 2 * np.pi * turns * u_T
            pose[0] += radius * np.cos(angle)
            pose[1] += radius * np.sin(angle)
        return pose


@dataclass(frozen=True)
class Thing:
    """One object. `radius` scales the unit shape; `angle` at u = 0 and `spin` per video are radians."""

    id: int
    shape: str
    colour: str
    texture: str
    radius: float
    angle: float
    spin: float
    motion: str
    path: Path


@dataclass(frozen=True)
class Camera:
    """A slow pan (x, y) and a hand's sway, in heights; `reach` bounds how far the view moves from its middle."""

    pan: tuple[float, float]
    sway: float
    phase: float

    @property
    def reach(self) -> float:
        return max(abs(self.pan[0]), abs(self.pan[1])) / 2 + self.sway

    def at(self, u_T: np.ndarray) -> np.ndarray:
        """How far the view's corner has moved, float64 [2, T] (x, y)."""
        swing = 2 * np.pi * u_T + self.phase
        return np.stack(
            [
                self.pan[0] * (u_T - 0.5) + self.sway * np.sin(swing),
                self.pan[1] * (u_T - 0.5) + self.sway * np.sin(1.7 * swing),
            ]
        )


@dataclass(frozen=True)
class Track:
    """What is seen of one thing at each judged moment.

    centre_T2 on the screen, radius_T (both in heights), seen_T the visible share of its own area, gone_T True where it
    lies wholly outside the frame at any resolution.
    """

    centre_T2: np.ndarray
    radius_T: np.ndarray
    seen_T: np.ndarray
    gone_T: np.ndarray


@dataclass(frozen=True)
class World:
    """Everything of one video except its pixels. `things` are in painter's order, the hindmost first."""

    aspect: float
    things: tuple[Thing, ...]
    camera: Camera

    def poses(self, u_T: np.ndarray) -> np.ndarray:
        """Screen x, y, radius, and cosine and sine of the angle of every thing, float64 [N, 5, T].

        Rounded to 2^-20, far below any pixel, so that the last bit of a machine's sine does not decide a mask.
        """
        camera = self.camera.at(u_T)
        poses = np.empty((len(self.things), 5, len(u_T)))
        for pose, thing in zip(poses, self.things, strict=True):
            x_y_scale = thing.path.at(u_T)
            angle = thing.angle + thing.spin * u_T
            pose[:2] = x_y_scale[:2] - camera
            pose[2] = thing.radius * x_y_scale[2]
            pose[3], pose[4] = np.cos(angle), np.sin(angle)
        return np.round(poses * 2.0**20) / 2.0**20

    @cached_property
    def tracks(self) -> dict[int, Track]:
        """What is seen of each thing, by its id."""
        poses = self.poses(np.linspace(0.0, 1.0, MOMENTS))
        return {thing.id: self._track(poses, order) for order, thing in enumerate(self.things)}

    def _track(self, poses: np.ndarray, order: int) -> Track:
        x, y, radius, cosine, sine = (row[:, None] for row in poses[order].astype(np.float32))
        points = interior(self.things[order].shape)
        px, py = points[:, 0], points[:, 1]
        screen_x = x + radius * (cosine * px - sine * py)
        screen_y = y + radius * (sine * px + cosine * py)
        visible = (screen_x > 0) & (screen_x < self.aspect) & (screen_y > 0) & (screen_y < 1)
        for above in range(order + 1, len(self.things)):
            visible &= ~covers(self.things[above].shape, poses[above], screen_x, screen_y)
        reach = REACH * poses[order, 2]
        centre_x, centre_y = poses[order, 0], poses[order, 1]
        gone = (
            (centre_x + reach < 0) | (centre_x - reach > self.aspect) | (centre_y + reach < 0) | (centre_y - reach > 1)
        )
        return Track(poses[order, :2].T.copy(), poses[order, 2].copy(), visible.mean(axis=1), gone)


def covers(shape: str, pose: np.ndarray, screen_x: np.ndarray, screen_y: np.ndarray) -> np.ndarray:
    """Whether a thing of this shape and pose [5, T] covers screen points [T, P]; bool [T, P]."""
    x, y, radius, cosine, sine = (row[:, None] for row in pose.astype(np.float32))
    dx, dy = (screen_x - x) / radius, (screen_y - y) / radius
    return distance(shape, cosine * dx + sine * dy, cosine * dy - sine * dx) < 0
