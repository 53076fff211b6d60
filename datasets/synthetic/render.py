"""Pixels of a synthetic world: exact masks without any colours, and frames without any masks.

Both are drawn from the same distance functions: a pixel belongs to the last thing in painter's order that covers its
centre, which is where that thing's antialiased coverage is more than one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .backdrop import Backdrop
from .draw import Draw
from .effects import Effects, smear
from .hard_backdrop import HardBackdrop
from .layout import COLOURS
from .shapes import REACH, distance, limited
from .textures import Images
from .world import Thing, World

# The colour that names a thing, and the second one of its pattern: the two never blend into a third name.
PAINT = {
    "red": ((216, 38, 40), (126, 8, 22)),
    "orange": ((248, 134, 22), (158, 66, 4)),
    "yellow": ((250, 216, 48), (140, 104, 6)),
    "green": ((44, 164, 66), (14, 96, 42)),
    "cyan": ((58, 208, 214), (206, 250, 250)),
    "blue": ((44, 84, 222), (150, 184, 252)),
    "purple": ((136, 58, 196), (214, 170, 248)),
    "pink": ((250, 132, 190), (190, 52, 122)),
}
assert tuple(PAINT) == COLOURS
# Of what hides things: no named colour.
_DULL = {"pillar": (112, 98, 84), "foliage": (74, 84, 58)}
_BORDER = 0.1  # width of the plain edge around a pattern, in unit lengths


@dataclass(frozen=True)
class _Instant:
    """Where everything is seen at one moment: poses [N, 6] before, at and after it (what the shutter takes in), the
    camera's (x, y) and scale, and the discs of the occluders [D, 3]."""

    poses: tuple[np.ndarray, np.ndarray, np.ndarray]
    camera: np.ndarray
    scale: float
    discs: np.ndarray


class Renderer:
    """Draws one world at one resolution; any moment on its own. Keeps the background, made when first needed.

    moments: those that will be asked for, all of which are computed with the first; any other can be asked for too.
    hard: with all effects; then the time between the moments says how much moves in one frame. images: the user's.
    """

    def __init__(
        self,
        world: World,
        height: int,
        width: int,
        seed: tuple[int, ...],
        moments: tuple[float, ...] = (),
        *,
        hard: bool = False,
        images: Images | None = None,
    ) -> None:
        self._world, self._height, self._width, self._seed = world, height, width, seed
        self._moments, self._hard, self._images = moments, hard, images
        self._instants: dict[float, _Instant] = {}
        self._backdrop: Backdrop | HardBackdrop | None = None
        self._effects: Effects | None = None
        # Centres of pixels in heights, also of those beside the frame from where something is smeared into it.
        self._beside = height // 4 + 4
        self._rows = (np.arange(-self._beside, height + self._beside) + 0.5) / height
        self._columns = (np.arange(-self._beside, width + self._beside) + 0.5) / height

    def labels(self, u: float) -> np.ndarray:
        """Which thing each pixel shows, by id, 0 for the background; uint8 [H, W]."""
        labels = np.zeros((self._height, self._width), np.uint8)
        instant = self._at(u)
        for thing, pose in zip(self._world.things, instant.poses[1], strict=True):
            window = self._window(pose, REACH * pose[2])
            if window:
                labels[window][distance(thing.shape, *self._local(pose, window)) < 0] = thing.id
        for depth in self._occluder_depths(instant):
            labels[depth > 0] = 0
        return labels

    def whole(self, u: float, ids: Sequence[int]) -> np.ndarray:
        """What each of these things covers of the frame, whatever is in front of it; bool [N, H, W]."""
        masks = np.zeros((len(ids), self._height, self._width), bool)
        for thing, pose in zip(self._world.things, self._at(u).poses[1], strict=True):
            window = self._window(pose, REACH * pose[2])
            if window and thing.id in ids:
                masks[ids.index(thing.id)][window] = distance(thing.shape, *self._local(pose, window)) < 0
        return masks

    def frame(self, u: float) -> np.ndarray:
        """The picture at moment `u`, uint8 RGB [H, W, 3]."""
        if self._backdrop is None:
            self._prepare()
        assert self._backdrop is not None
        instant = self._at(u)
        canvas = self._backdrop.view(instant.camera, instant.scale)
        if self._effects is None:
            for thing, pose in zip(self._world.things, instant.poses[1], strict=True):
                self._cast_shadow(canvas, thing, pose, (0.22, 0.4, 0.42))
                self._paint(canvas, thing, pose)
            canvas *= self._backdrop.light(u)
            return limited(canvas + 0.5, 0, 255).astype(np.uint8)
        for number, thing in enumerate(self._world.things):
            before, pose, after = (poses[number] for poses in instant.poses)
            self._cast_shadow(canvas, thing, pose, self._effects.shadow)
            self._expose(canvas, number, thing, pose, after[:2] - before[:2])
        for number, depth in enumerate(self._occluder_depths(instant)):
            self._paint_occluder(canvas, number, depth)
        canvas *= self._backdrop.light(u)
        return self._effects.finish(canvas, u)

    def _prepare(self) -> None:
        size, camera = (self._height, self._width), self._world.camera
        if self._hard:
            self._backdrop = HardBackdrop((*self._seed, 0), *size, camera, self._images)
            self._effects = Effects((*self._seed, 1), *size, self._images)
        else:
            self._backdrop = Backdrop(self._seed, *size, camera.reach)

    def _at(self, u: float) -> _Instant:
        if u not in self._instants:
            wanted = self._moments if u in self._moments else (u,)
            self._instants |= dict(zip(wanted, self._instants_of(np.array(wanted)), strict=True))
        return self._instants[u]

    def _instants_of(self, u_T: np.ndarray) -> list[_Instant]:
        at = before = after = self._world.poses(u_T)
        if self._hard:
            # The shutter is open for a share of the time from frame to frame. The first frame tells nothing of what
            # comes: it is the same in the counterpart world.
            half = Draw(*self._seed, 2).between(0.3, 0.9) / max(len(self._moments) - 1, 1) / 2
            half_T = np.minimum(half, u_T)
            before, after = (self._world.poses(u_T + side * half_T) for side in (-1, 1))
        camera, scale = self._world.camera.at(u_T), self._world.camera.scale(u_T)
        discs = self._world.occluder_discs(u_T).astype(np.float32)
        return [
            _Instant((before[..., t], at[..., t], after[..., t]), camera[:, t], float(scale[t]), discs[..., t])
            for t in range(len(u_T))
        ]

    def _window(self, pose: np.ndarray, reach: float) -> tuple[slice, slice] | None:
        """Rows and columns that a disc of `reach` heights about the thing touches, or None outside the frame."""
        x, y, reach = pose[0] * self._height, pose[1] * self._height, reach * self._height + 1.5
        top, bottom = max(int(y - reach), 0), min(int(y + reach) + 1, self._height)
        left, right = max(int(x - reach), 0), min(int(x + reach) + 1, self._width)
        return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None

    def _local(self, pose: np.ndarray, window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        """The window's pixel centres in the thing's unit coordinates: x, y, float32 [h, w] each."""
        x, y, radius, cosine, sine, wide = pose
        rows, columns = (
            line[side.start + self._beside : side.stop + self._beside]
            for line, side in zip((self._rows, self._columns), window, strict=True)
        )
        rows, columns = rows - y, columns - x
        rows, columns = (rows / radius).astype(np.float32)[:, None], (columns / radius).astype(np.float32)[None, :]
        cosine, sine = np.float32(cosine), np.float32(sine)
        return (cosine * columns + sine * rows) / np.float32(wide), cosine * rows - sine * columns

    def _cast_shadow(
        self, canvas: np.ndarray, thing: Thing, pose: np.ndarray, shadow: tuple[float, float, float]
    ) -> None:
        """Darkens what lies behind: the thing's own outline, moved away from the light and blurred.

        shadow: how far it is moved and how soft its edge is, in radii, and how dark it is.
        """
        assert self._backdrop is not None
        away, soft, dark = shadow
        moved = pose.copy()
        moved[:2] -= away * pose[2] * self._backdrop.light_from
        window = self._window(moved, (REACH + soft) * pose[2])
        if window:
            depth = distance(thing.shape, *self._local(moved, window)) * np.float32(1 / soft)
            shade = limited(np.float32(0.5) - np.float32(0.5) * depth)
            canvas[window] *= (1 - np.float32(dark) * shade * shade)[..., None]

    def _paint(self, canvas: np.ndarray, thing: Thing, pose: np.ndarray) -> None:
        window = self._window(pose, REACH * pose[2])
        if window:
            colour, cover = self._coloured(thing, pose, *self._local(pose, window))
            canvas[window] += cover * (colour - canvas[window])

    def _coloured(self, thing: Thing, pose: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A thing's colours at points of its unit coordinates and how much it covers there, float32 [h, w, 3 and 1]."""
        assert self._backdrop is not None
        pixels = np.float32(pose[2] * self._height)  # pixels per unit
        edge = distance(thing.shape, x, y)
        base, accent = (np.array(colour, np.float32) for colour in PAINT[thing.colour])
        # An edge without pattern keeps dark patches from looking like bites out of the outline.
        inner = limited((np.float32(-_BORDER) - edge) * pixels + np.float32(0.5))
        colour = base + (inner * _pattern(thing, x, y, pixels))[..., None] * (accent - base)
        # The light is fixed to the scene, so it is turned into the thing's own coordinates.
        light_x, light_y = self._backdrop.light_from
        lit_x = np.float32(light_x * pose[3] + light_y * pose[4])
        lit_y = np.float32(light_y * pose[3] - light_x * pose[4])
        shade = np.float32(1.0) + np.float32(0.16) * (x * lit_x + y * lit_y)
        rim = limited(np.float32(1) + edge * np.float32(7))
        colour *= (shade * (np.float32(1) - np.float32(0.38) * rim * rim))[..., None]
        return colour, limited(np.float32(0.5) - edge * pixels)[..., None]

    def _expose(self, canvas: np.ndarray, number: int, thing: Thing, pose: np.ndarray, way: np.ndarray) -> None:
        """Paints a thing with its surface, smeared along its `way` (x, y in heights) while the shutter is open."""
        assert self._effects is not None
        most = self._height / 10  # whoever films what is faster than this opens the shutter for less long
        across, down = (min(max(float(part) * self._height, -most), most) for part in way)
        # What lies outside the frame is smeared into it, so the patch reaches beyond its borders.
        pad = int(max(abs(across), abs(down)) / 2) + 2
        x, y, reach = pose[0] * self._height, pose[1] * self._height, REACH * pose[2] * self._height + pad
        top, bottom = max(int(y - reach), -pad), min(int(y + reach) + 1, self._height + pad)
        left, right = max(int(x - reach), -pad), min(int(x + reach) + 1, self._width + pad)
        inside = slice(max(top, 0), min(bottom, self._height)), slice(max(left, 0), min(right, self._width))
        if any(side.start >= side.stop for side in inside):
            return
        local = self._local(pose, (slice(top, bottom), slice(left, right)))
        colour, cover = self._coloured(thing, pose, *local)
        colour *= self._effects.surface(number, *local)[..., None]
        patch = smear(np.concatenate([colour * cover, cover], axis=2), across, down)
        patch = patch[inside[0].start - top : inside[0].stop - top, inside[1].start - left : inside[1].stop - left]
        canvas[inside] *= np.float32(1) - patch[..., 3:]
        canvas[inside] += patch[..., :3]

    def _occluder_depths(self, instant: _Instant) -> list[np.ndarray]:
        """How far inside each occluder every pixel lies, in heights, negative outside; float32 [H, W] each."""
        beside = self._beside
        x = self._columns[beside:-beside].astype(np.float32)[None, :]
        y = self._rows[beside:-beside].astype(np.float32)[:, None]
        discs, first = instant.discs, 0
        depths = []
        for occluder in self._world.occluders:
            depths.append(-occluder.distance(discs[first : first + len(occluder.discs)], x, y))
            first += len(occluder.discs)
        return depths

    def _paint_occluder(self, canvas: np.ndarray, number: int, depth: np.ndarray) -> None:
        """Bark or leaves of a dull colour, darker towards the edge."""
        assert self._effects is not None
        occluder = self._world.occluders[number]
        cover = limited(np.float32(0.5) + depth * np.float32(self._height))
        seen = [np.flatnonzero(cover.any(axis=side)) for side in (1, 0)]
        if not seen[0].size:
            return
        rows, columns = (slice(found[0], found[-1] + 1) for found in seen)
        depth, cover = depth[rows, columns], cover[rows, columns, None]
        y, x = np.mgrid[rows, columns].astype(np.float32) / np.float32(self._height)
        rough = self._effects.surface(number + 1, x % 0.5 * 5 - 1.25, y % 0.5 * 5 - 1.25)
        bright = np.float32(0.7) + np.float32(6) * np.minimum(depth, np.float32(0.05))
        colour = np.array(_DULL[occluder.kind], np.float32) * (bright * rough)[..., None]
        canvas[rows, columns] += cover * (colour - canvas[rows, columns])


def _pattern(thing: Thing, x: np.ndarray, y: np.ndarray, pixels: np.float32) -> np.ndarray:
    """How much of the second colour each point has, 0 to 1, antialiased; float32 [h, w]."""
    if thing.texture == "plain":
        return np.zeros_like(x)
    period = np.float32(0.62 if thing.radius < 0.13 else 0.44)
    if thing.texture == "striped":
        return limited(_bars(x, period) * pixels + np.float32(0.5))
    if thing.texture == "checkered":
        period *= np.float32(1.3)
        across = limited(2 * _bars(x, period) * pixels, -1, 1)
        down = limited(2 * _bars(y, period) * pixels, -1, 1)
        return np.float32(0.5) - np.float32(0.5) * across * down
    # Dots stand in rows that are shifted by half against their neighbours.
    row = np.floor(y / period)
    dx = (x / period + np.float32(0.5) * (row % 2)) % 1 - np.float32(0.5)
    dy = (y / period) % 1 - np.float32(0.5)
    inside = np.float32(0.34) - np.sqrt(dx * dx + dy * dy)
    return limited(inside * period * pixels + np.float32(0.5))


def _bars(x: np.ndarray, period: np.float32) -> np.ndarray:
    """Distance to the nearest edge of bars half a period wide, positive inside one, in units of x."""
    return (np.abs((x / period) % 1 - np.float32(0.5)) - np.float32(0.25)) * period
