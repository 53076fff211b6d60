"""What several things do together: each event draws starts and profiles for its things, and what they do instead.

Every event leaves the first frame open about what comes: in the counterpart the same things start at the same places
and exchange their parts, so who follows, stops first or leaves is another, or what happened does not happen at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .draw import Draw
from .layout import Stage
from .paths import ACTS, Profile, extent, mirrored, profile
from .shapes import REACH

# How much of a thing's radius lies inside the frame at least, where it is meant to be in the picture.
_INSIDE = 0.85
# Candidate starts of which the ones farthest apart are taken.
_TRIES = 12


@dataclass(frozen=True)
class Part:
    """What one thing does: where it starts, its profile, and the profile of the counterpart world."""

    motion: str
    start: tuple[float, float]
    way: Profile
    instead: Profile


Event = Callable[[Draw, Stage, float, int], list[Part]]


def spots(
    draw: Draw, stage: Stage, radius: float, count: int, box: tuple[float, float, float, float]
) -> list[tuple[float, float]]:
    """Starts from where displacements within `box` stay in the frame: of a few drawn sets, the one farthest apart."""
    room = _INSIDE * radius
    low_x, high_x = room - box[0], stage.aspect - room - box[1]
    low_y, high_y = room - box[2], 1 - room - box[3]
    if low_x > high_x:
        low_x = high_x = (low_x + high_x) / 2
    if low_y > high_y:
        low_y = high_y = (low_y + high_y) / 2
    best: list[tuple[float, float]] = []
    farthest = -1.0
    for _ in range(_TRIES):
        found = [(draw.between(low_x, high_x), draw.between(low_y, high_y)) for _ in range(count)]
        apart = [np.hypot(a[0] - b[0], a[1] - b[1]) for order, a in enumerate(found) for b in found[:order]]
        nearest = min(apart, default=1.0)
        if nearest > farthest:
            best, farthest = found, nearest
        if farthest > 2.6 * radius:
            break
    return best


def exchanged(
    draw: Draw, names: Sequence[str], ways: Sequence[Profile], starts: Sequence[tuple[float, float]]
) -> list[Part]:
    """Parts of things that could each do what another does: in the counterpart each does what the next one did."""
    order = draw.some(range(len(ways)), len(ways))
    return [
        Part(names[mine], start, ways[mine], ways[order[(place + 1) % len(order)]])
        for place, (mine, start) in enumerate(zip(order, starts, strict=True))
    ]


def acts(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """Each does something else on its own, and all of it fits from every start."""
    for _ in range(_TRIES):
        names = draw.some(_CLEAR, count)
        ways = [ACTS[name](draw, stage.wide) for name in names]
        box = extent(*ways)
        if box[1] - box[0] < stage.aspect - 3 * radius and box[3] - box[2] < 1 - 2 * _INSIDE * radius:
            break
    return exchanged(draw, names, ways, spots(draw, stage, radius, count, box))


# What tells two things of the same looks apart: nothing that changes their size.
_CLEAR = (
    "still", "left", "right", "up", "down", "circling", "stopping", "starting", "turning back", "turning a corner",
    "zigzag",
)  # fmt: skip


def speeds(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """All the same way, each at another speed."""
    side = draw.sign()
    far = [draw.between(0.8, 0.88), draw.between(0.26, 0.3), draw.between(0.5, 0.54)][:count]
    ways = [mirrored(profile((1, one * stage.wide, 0)), side) for one in far]
    starts = spots(draw, stage, radius, count, extent(*ways))
    return exchanged(draw, ["fast", "slow", "middling"][:count], ways, starts)


def stops(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """All move from the beginning; they stop one after another, at times well apart."""
    return _timed(draw, stage, radius, count, "stops", lambda when, far: ((when, far * when, 0), (1, far * when, 0)))


def begins(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """All stand at the beginning; they start to move one after another, at times well apart."""
    return _timed(draw, stage, radius, count, "starts", lambda when, far: ((when, 0, 0), (1, far * (1 - when), 0)))


def _timed(draw: Draw, stage: Stage, radius: float, count: int, name: str, knots: Callable) -> list[Part]:
    times = _apart(draw, count, 0.25, 0.75)
    far = draw.between(0.7, 0.78) * stage.wide
    box = extent(*(profile(*knots(when, far)) for when in times))
    widest = max(abs(box[0]), abs(box[1]))
    starts = spots(draw, stage, radius, count, (0.0, 0.0, 0.0, 0.0))
    order = draw.some(range(count), count)
    parts = []
    for place, (x, y) in enumerate(starts):
        # Towards the side with room, either where there is room on both.
        room = stage.aspect - _INSIDE * radius - x, x - _INSIDE * radius
        side = draw.sign() if min(room) > widest else 1 if room[0] > room[1] else -1
        way, other = (
            mirrored(profile(*knots(times[which], far)), side) for which in (order[place], order[(place + 1) % count])
        )
        parts.append(Part(f"{name} as number {order[place] + 1}", (x, y), way, other))
    return parts


def _apart(draw: Draw, count: int, first: float, last: float) -> list[float]:
    """Times in rising order, evenly spread but for a quarter of the distance between them."""
    if count == 1:
        return [draw.between(first, (first + last) / 2)]
    step = (last - first) / (count - 1)
    return [first + step * (order + draw.between(-0.12, 0.12)) for order in range(count)]


def outside(stage: Stage, radius: float) -> float:
    """How far beyond a border a thing's centre is where nothing of it can be seen, whatever the camera does."""
    return radius * REACH + stage.camera + 0.1


def enters(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """None is there at first; they come in from the left or right one after another, and stay."""
    far = outside(stage, radius)
    times = _apart(draw, count, 0.16, 0.16 + 0.22 * (count - 1))
    lanes = draw.some([(lane + 0.5) / count for lane in range(count)], count)
    order = draw.some(range(count), count)
    parts = []
    for place, lane in enumerate(lanes):
        side = draw.sign()
        start = (-far if side > 0 else stage.aspect + far, radius + lane * (1 - 2 * radius))
        inside = far + draw.between(0.35, 0.6) * stage.aspect
        then, rise = inside + draw.between(-0.2, 0.2), draw.between(-0.12, 0.12) * (1 if lane < 0.5 else -1)
        way, other = (
            mirrored(profile((times[which], 0, 0), (times[which] + 0.22, inside, 0), (1, then, rise)), side)
            for which in (order[place], order[(place + 1) % count])
        )
        parts.append(Part(f"enters as number {order[place] + 1}", start, way, other))
    return parts


def leaves(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """All are there at first; they leave to the left or right one after another."""
    far = outside(stage, radius)
    times = _apart(draw, count, 0.22, 0.62)
    order = draw.some(range(count), count)
    parts = []
    for place, (x, y) in enumerate(spots(draw, stage, radius, count, (0.0, 0.0, 0.0, 0.0))):
        away = stage.aspect - x + far if x > stage.aspect / 2 else -x - far
        way, other = (
            profile((times[which], 0, 0), (times[which] + 0.25, away, 0), (1, away, 0))
            for which in (order[place], order[(place + 1) % count])
        )
        parts.append(Part(f"leaves as number {order[place] + 1}", (x, y), way, other))
    return parts


def returns(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """The first leaves and comes back; the second stays, leaves for good, or comes back later."""
    far = outside(stage, radius)
    second = draw.pick(("stays", "leaves", "returns later"))
    early, late = draw.between(0.12, 0.18), draw.between(0.5, 0.54)
    places = spots(draw, stage, radius, count, (0.0, 0.0, 0.0, 0.0))
    around = [draw.between(0.0, 0.12) for _ in places]
    swayed = draw.between(0.18, 0.22)

    def way(name: str, place: int) -> Profile:
        x, y = places[place]
        away = stage.aspect - x + far if x > stage.aspect / 2 else -x - far
        drift = around[place] * (1 if y < 0.5 else -1)
        inward = -swayed if away > 0 else swayed
        if name == "stays":
            return profile((early, 0, 0), (0.5, inward, 0), (1, 0, 0))
        if name == "leaves":
            return profile((late, 0, 0), (late + 0.2, away, 0), (1, away, 0))
        begins = early if name == "returns" else early + 0.25
        gone, again = begins + 0.16, begins + 0.36
        return profile((begins, 0, 0), (gone, away, 0), (again, away, drift), (again + 0.18, 0.3 * inward, drift))

    names = draw.some(("returns", second), 2)[:count] if count > 1 else ["returns"]
    return [Part(name, places[at], way(name, at), way(names[at - 1], at)) for at, name in enumerate(names)]


def follows(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """Two go around the same corner at the same speed, one behind the other."""
    gap = 2.3 * radius
    across, down = draw.between(0.4, 0.46) * stage.wide, draw.between(0.33, 0.37)
    turn = draw.sign()
    length = across + down
    leader = profile((across / length, across, 0), (1, across, turn * down))
    corner = (across + gap) / length
    follower = profile((corner, across + gap, 0), (1, across + gap, turn * (down - gap)))
    return _formation(draw, stage, radius, ("leads", "follows"), (gap, 0.0), leader, follower)


def overtakes(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """Two go the same way beside each other; the one that is behind at first passes the other."""
    gap, lane = 2.2 * radius, 2.1 * radius * draw.sign()
    slow, fast = draw.between(0.18, 0.24) * stage.wide, draw.between(0.74, 0.8) * stage.wide
    ways = profile((1, slow, 0)), profile((1, fast, 0))
    return _formation(draw, stage, radius, ("is overtaken", "overtakes"), (gap, lane), *ways)


def collides(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """One runs into another that stood there, which is pushed away while the first one bounces back."""
    apart, hit = draw.between(0.52, 0.6) * stage.wide, draw.between(0.4, 0.5)
    reaches = apart - 1.75 * radius
    pushed = profile((hit, 0, 0), (1, draw.between(0.32, 0.36) * stage.wide, 0))
    pushes = profile((hit, reaches, 0), (1, reaches - draw.between(0.1, 0.14), 0))
    return _formation(draw, stage, radius, ("is hit", "hits"), (apart, 0.0), pushed, pushes)


def _formation(
    draw: Draw,
    stage: Stage,
    radius: float,
    names: tuple[str, str],
    offset: tuple[float, float],
    front: Profile,
    back: Profile,
) -> list[Part]:
    """Two things, one `offset` in front of the other; in the counterpart they go the other way and exchange parts."""
    side = draw.sign()
    offset = (side * offset[0], offset[1])
    front, back = mirrored(front, side), mirrored(back, side)
    other_front, other_back = mirrored(back, -1), mirrored(front, -1)
    ahead, behind = extent(front, other_front), extent(back, other_back)
    box = (
        min(behind[0], offset[0] + ahead[0]),
        max(behind[1], offset[0] + ahead[1]),
        min(behind[2], offset[1] + ahead[2]),
        max(behind[3], offset[1] + ahead[3]),
    )
    x, y = spots(draw, stage, radius, 1, box)[0]
    first = Part(names[0], (x + offset[0], y + offset[1]), front, other_front)
    return [first, Part(names[1], (x, y), back, other_back)]


def exchanges(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """Two exchange places, partly hiding each other on the way; in the counterpart they turn back where they meet."""
    apart, rise = draw.between(0.55, 0.72) * stage.wide, draw.between(-0.14, 0.14)
    bow = draw.sign() * draw.between(0.42, 0.6) * radius
    begins, ends = draw.between(0.1, 0.22), draw.between(0.72, 0.86)
    middle = (begins + ends) / 2
    way = profile((begins, 0, 0), (middle, apart / 2, rise / 2 + bow), (ends, apart, rise), (1, apart, rise))
    short = apart / 2 - 1.05 * radius
    back = profile((begins, 0, 0), (middle, short, rise / 2 + bow), (ends, 0, 0), (1, 0, 0))
    box = (0.0, apart, min(0.0, rise) - abs(bow), max(0.0, rise) + abs(bow))
    x, y = spots(draw, stage, radius, 1, box)[0]
    first = Part("exchanges places", (x, y), way, back)
    return [first, Part("exchanges places", (x + apart, y + rise), _reversed(way), _reversed(back))]


def _reversed(way: Profile) -> Profile:
    """The same with every displacement the other way."""
    return tuple((u, -x, -y, size) for u, x, y, size in way)


def crosses(draw: Draw, stage: Stage, radius: float, count: int) -> list[Part]:
    """The ways of two cross, one passing soon after the other; in the counterpart both turn back before."""
    across, down = draw.between(0.62, 0.7) * stage.wide, draw.between(0.58, 0.64)
    side, fall = draw.sign(), draw.sign()
    lateness = draw.between(0.24, 0.3)
    box = (min(0.0, side * across), max(0.0, side * across), -down / 2, down / 2)
    x, y = spots(draw, stage, radius, 1, box)[0]
    level = profile((1 - lateness, side * across, 0), (1, side * across, 0))
    upright = profile((lateness, 0, 0), (1, 0, fall * down))
    returned = profile((0.5, 0.2 * side * across, 0), (1, 0, 0))
    lowered = profile((0.5, 0, 0.2 * fall * down), (1, 0, 0))
    second = (x + side * across / 2, y - fall * down / 2)
    return [Part("crosses", (x, y), level, returned), Part("crosses", second, upright, lowered)]
