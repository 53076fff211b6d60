"""A synthetic world: what is in it, where everything is at any moment, and what of it can be seen.

Lengths are fractions of the frame's height: y runs from 0 (top) to 1, x from 0 (left) to `aspect`. Time is u, 0 at the
first frame and 1 at the last, so a world has no resolution and no frame rate. Nothing here draws pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .occluders import Occluder
from .paths import Route
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
    """One object. `radius` scales the unit shape; `angle` at u = 0 and `spin` per video are radians.

    instead: what it does in the counterpart world; None where it does the same there.
    turn: how it turns about its own upright axis, (share of its width lost at most, times per video, phase).
    """

    id: int
    shape: str
    colour: str
    texture: str
    radius: float
    angle: float
    spin: float
    motion: str
    path: Path | Route
    instead: Route | None = None
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Camera:
    """A slow pan (x, y) and a hand's sway, in heights; `reach` bounds how far the view moves from its middle.

    zoom: by what share the view is enlarged from the first moment to the last, evenly about 1; negative backs away.
    shake: a quick tremble beside the sway, in heights.
    """

    pan: tuple[float, float]
    sway: float
    phase: float
    zoom: float = 0.0
    shake: float = 0.0

    @property
    def reach(self) -> float:
        return max(abs(self.pan[0]), abs(self.pan[1])) / 2 + self.sway + self.shake

    def at(self, u_T: np.ndarray) -> np.ndarray:
        """How far the view's corner has moved, float64 [2, T] (x, y)."""
        swing = 2 * np.pi * u_T + self.phase
        moved = np.stack(
            [
                self.pan[0] * (u_T - 0.5) + self.sway * np.sin(swing),
                self.pan[1] * (u_T - 0.5) + self.sway * np.sin(1.7 * swing),
            ]
        )
        if self.shake:
            moved += self.shake * np.stack([np.sin(9.3 * swing), np.cos(11.9 * swing)])
        return moved

    def scale(self, u_T: np.ndarray) -> np.ndarray:
        """By how much the view is enlarged about the frame's middle, float64 [T]."""
        return 1.0 + self.zoom * (u_T - 0.5)


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
    """Everything of one video except its pixels. `things` are in painter's order, the hindmost first.

    occluders: what hides things and is none, in front of them all.
    """

    aspect: float
    things: tuple[Thing, ...]
    camera: Camera
    occluders: tuple[Occluder, ...] = ()

    def poses(self, u_T: np.ndarray) -> np.ndarray:
        """Screen x, y, radius, cosine and sine of the angle, and width factor of every thing, float64 [N, 6, T].

        Rounded to 2^-20, far below any pixel, so that the last bit of a machine's sine does not decide a mask.
        """
        camera = self.camera.at(u_T)
        poses = np.ones((len(self.things), 6, len(u_T)))
        for pose, thing in zip(poses, self.things, strict=True):
            x_y_scale = thing.path.at(u_T)
            angle = thing.angle + thing.spin * u_T
            pose[:2] = x_y_scale[:2] - camera
            pose[2] = thing.radius * x_y_scale[2]
            pose[3], pose[4] = np.cos(angle), np.sin(angle)
            lost, times, phase = thing.turn
            if lost:
                pose[5] = 1.0 - lost * (0.5 - 0.5 * np.cos(2 * np.pi * (times * u_T + phase)))
        if self.camera.zoom:
            scale = self.camera.scale(u_T)
            middle = np.array([self.aspect / 2, 0.5])[:, None]
            poses[:, :2] = (poses[:, :2] - middle) * scale + middle
            poses[:, 2] *= scale
        return np.round(poses * 2.0**20) / 2.0**20

    def occluder_discs(self, u_T: np.ndarray) -> np.ndarray:
        """Screen x, y and radius of every disc of every occluder, in their order, float64 [D, 3, T], rounded as poses.

        A pillar is one disc of which only x and radius count.
        """
        discs = np.array([disc for occluder in self.occluders for disc in occluder.discs]).reshape(-1, 3, 1)
        camera, scale = self.camera.at(u_T), self.camera.scale(u_T)
        middle = np.array([self.aspect / 2, 0.5])[:, None]
        screen = np.concatenate([(discs[:, :2] - camera - middle) * scale + middle, discs[:, 2:] * scale], axis=1)
        return np.round(screen * 2.0**20) / 2.0**20

    @cached_property
    def tracks(self) -> dict[int, Track]:
        """What is seen of each thing, by its id."""
        u_T = np.linspace(0.0, 1.0, MOMENTS)
        poses, discs = self.poses(u_T), self.occluder_discs(u_T)
        return {thing.id: self._track(poses, discs, order) for order, thing in enumerate(self.things)}

    def _track(self, poses: np.ndarray, discs: np.ndarray, order: int) -> Track:
        x, y, radius, cosine, sine, wide = (row[:, None] for row in poses[order].astype(np.float32))
        points = interior(self.things[order].shape)
        px, py = points[:, 0] * wide, points[:, 1]
        screen_x = x + radius * (cosine * px - sine * py)
        screen_y = y + radius * (sine * px + cosine * py)
        visible = (screen_x > 0) & (screen_x < self.aspect) & (screen_y > 0) & (screen_y < 1)
        for above in range(order + 1, len(self.things)):
            visible &= ~covers(self.things[above].shape, poses[above], screen_x, screen_y)
        first = 0
        for occluder in self.occluders:
            own = discs[first : first + len(occluder.discs), ..., None].astype(np.float32)
            visible &= occluder.distance(own, screen_x, screen_y) >= 0
            first += len(occluder.discs)
        reach = REACH * poses[order, 2]
        centre_x, centre_y = poses[order, 0], poses[order, 1]
        gone = (
            (centre_x + reach < 0) | (centre_x - reach > self.aspect) | (centre_y + reach < 0) | (centre_y - reach > 1)
        )
        return Track(poses[order, :2].T.copy(), poses[order, 2].copy(), visible.mean(axis=1), gone)


def counterpart(world: World) -> World:
    """The world with the same first frame in which things do something else: mostly, they exchange their motions.

    It is its own inverse. Where no thing has anything else to do, it is the same world.
    """
    things = tuple(
        replace(thing, path=thing.instead, instead=thing.path)
        if thing.instead is not None and isinstance(thing.path, Route)
        else thing
        for thing in world.things
    )
    return replace(world, things=things)


def covers(shape: str, pose: np.ndarray, screen_x: np.ndarray, screen_y: np.ndarray) -> np.ndarray:
    """Whether a thing of this shape and pose [6, T] covers screen points [T, P]; bool [T, P]."""
    x, y, radius, cosine, sine, wide = (row[:, None] for row in pose.astype(np.float32))
    dx, dy = (screen_x - x) / radius, (screen_y - y) / radius
    return distance(shape, (cosine * dx + sine * dy) / wide, cosine * dy - sine * dx) < 0
