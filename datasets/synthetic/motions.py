"""What a thing does, by its measured track: True, False, or None where people could argue.

Lengths are in heights and times in judged moments. Thresholds come in pairs with a gap between, wide enough for a
swaying camera and for masks of few pixels: what falls into the gap is not spoken of.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np

from .observed import Tracks
from .program import DIRECTIONS

Truth = bool | None

SEEN = 0.3  # a thing counts as in the picture when this share of it is seen
_FEW = 6  # moments seen, below which nothing is said of a motion
_WINDOW = 4  # steps over which standing and moving are told apart
_STANDS, _CREEPS, _MOVES = 0.045, 0.065, 0.08  # extent of a window's positions, at most, at most, at least
_STAND_WINDOWS = 2  # successive standing windows that make a stop
_ARM = 3  # steps on either side of a corner
_AXES = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}


class Motions:
    """Judges the motions and events of all N things of a video, each when first asked for."""

    def __init__(self, tracks: Tracks) -> None:
        self.shown_NT = tracks.seen_NT >= SEEN
        self.gone_NT = tracks.gone_NT
        self.centre_NT2 = np.where(self.shown_NT[..., None], tracks.centre_NT2, np.nan)
        self.radius_NT = np.where(self.shown_NT, tracks.radius_NT, np.nan)
        self.count, self.moments = self.shown_NT.shape
        self._spans = [_span(shown_T) for shown_T in self.shown_NT]
        self._motions: dict[str, list[Truth]] = {}
        self._events: dict[str, list[tuple[Truth, float | None]]] = {}

    def motion(self, motion: str) -> list[Truth]:
        """Whether each thing makes this motion of `MOTIONS`."""
        if motion not in self._motions:
            self._motions[motion] = [self._judge(motion, thing) for thing in range(self.count)]
        return self._motions[motion]

    def event(self, event: str) -> list[tuple[Truth, float | None]]:
        """Whether this event of `EVENTS` happens to each thing, and the moment, None where it has no single one."""
        if event not in self._events:
            self._events[event] = [self._happens(event, thing) for thing in range(self.count)]
        return self._events[event]

    def seen_enough(self, thing: int) -> bool:
        return self.moments > _FEW and int(self.shown_NT[thing].sum()) >= _FEW

    @cached_property
    def path_N(self) -> np.ndarray:
        """Length of the way seen."""
        return np.nansum(np.hypot(*np.moveaxis(np.diff(self.centre_NT2, axis=1), -1, 0)), axis=1)

    @cached_property
    def extent_N(self) -> np.ndarray:
        """The larger side of the box around all places seen."""
        return _extent(self.centre_NT2)

    @cached_property
    def speeds_N2(self) -> np.ndarray:
        """Mean speed while seen and the highest over a window, heights a moment; [N, 2]."""
        steps_N = np.maximum((self.shown_NT[:, 1:] & self.shown_NT[:, :-1]).sum(axis=1), 1)
        peak_N = np.fmax.reduce(self._ranges_NW, axis=1, initial=0) / _WINDOW
        return np.stack([self.path_N / steps_N, peak_N], axis=1)

    def _judge(self, motion: str, thing: int) -> Truth:
        if self.moments <= _FEW:
            return None
        if motion == "late":
            return self._is_late(thing)
        if motion == "leaving":
            return self._is_leaving(thing)
        if motion == "returning":
            return self._is_returning(thing)
        if not self.seen_enough(thing):
            return None
        # What a thing does out of the picture nobody can tell: its way as a whole is arguable.
        away = bool(self.gone_NT[thing, self._spans[thing]].any())
        if motion in DIRECTIONS:
            goes = self._goes(thing, *_AXES[motion])
            return None if away and goes else goes
        if motion in ("approaching", "receding"):
            radius_T = self.radius_NT[thing, self.shown_NT[thing]]
            growth = float(radius_T[-1] / radius_T[0])
            return between(growth if motion == "approaching" else 1 / growth, 1.2, 1.6)
        if motion == "still":
            return self._is_still(thing)
        if motion == "moving":
            return True if self.extent_N[thing] > 0.2 else False if self._is_still(thing) else None
        if motion == "stopping":
            return self.event("stops")[thing][0]
        if motion == "starting":
            return self.event("starts")[thing][0]
        if away:
            return None
        if motion == "circling":
            return self._circling[thing]
        return self._is_turning(thing, motion)

    def _goes(self, thing: int, axis: int, sign: int) -> Truth:
        """True for a clear, steady way in that direction; false where it never goes far in it, or circles."""
        centre_T2 = self.centre_NT2[thing, self.shown_NT[thing]]
        along = sign * centre_T2[:, axis]
        across = centre_T2[:, 1 - axis]
        farthest = float((along - np.minimum.accumulate(along)).max())
        back = float((np.maximum.accumulate(along) - along).max())
        net, aside = float(along[-1] - along[0]), float(abs(across[-1] - across[0]))
        if farthest < 0.1 or self._circling[thing]:
            return False
        return True if net > 0.3 and back < 0.06 and aside < 0.5 * net else None

    def _is_still(self, thing: int) -> Truth:
        radius_T = self.radius_NT[thing, self.shown_NT[thing]]
        moved, growth = float(self.extent_N[thing]), float(radius_T.max() / radius_T.min())
        if moved > 0.16 or growth > 1.35 or self.gone_NT[thing].any():
            return False
        return True if moved < 0.1 and growth < 1.2 else None

    def _is_late(self, thing: int) -> Truth:
        if self.shown_NT[thing, 0]:
            return False
        return True if self.gone_NT[thing, :3].all() and self.seen_enough(thing) else None

    def _is_leaving(self, thing: int) -> Truth:
        """Goes out of the picture and stays out."""
        shown = self._spans[thing]
        if not self.gone_NT[thing, shown.start :].any():
            return False if self.shown_NT[thing, -1] else None
        once = not self.gone_NT[thing, shown].any()
        return True if once and self.gone_NT[thing, -2:].all() and self.seen_enough(thing) else None

    def _is_returning(self, thing: int) -> Truth:
        shown_T, gone_T, span = self.shown_NT[thing], self.gone_NT[thing], self._spans[thing]
        if gone_T[span].sum() >= 3 and shown_T[0] and shown_T[-1]:
            return True
        return False if shown_T[span].all() and not gone_T[span.stop :].any() else None

    @cached_property
    def _circling(self) -> list[Truth]:
        return [
            _is_circling(centre_T2[shown_T]) for centre_T2, shown_T in zip(self.centre_NT2, self.shown_NT, strict=True)
        ]

    @cached_property
    def _ranges_NW(self) -> np.ndarray:
        """Extent of the positions in each window, NaN where the thing is not seen throughout."""
        if self.moments <= _WINDOW:
            return np.full((self.count, 1), np.nan)
        windows = np.lib.stride_tricks.sliding_window_view(self.centre_NT2, _WINDOW + 1, axis=1)
        sides = windows.max(axis=-1) - windows.min(axis=-1)
        return np.hypot(sides[..., 0], sides[..., 1])

    @cached_property
    def _corners(self) -> list[list[tuple[int, float]]]:
        """Where each thing changes its direction by 50 degrees or more: moments and angles, right turns positive."""
        arm_NM2 = self.centre_NT2[:, _ARM:] - self.centre_NT2[:, :-_ARM]
        before, after = arm_NM2[:, :-_ARM], arm_NM2[:, _ARM:]
        angle = np.arctan2(
            before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0], (before * after).sum(axis=-1)
        )
        moves = np.hypot(arm_NM2[..., 0], arm_NM2[..., 1]) > 0.05
        angle = np.where(moves[:, :-_ARM] & moves[:, _ARM:], np.degrees(angle), 0)
        return [_peaks(row) for row in angle]

    def _is_turning(self, thing: int, motion: str) -> Truth:
        circling, corners = self._circling[thing], self._corners[thing]
        if self.extent_N[thing] < 0.12 or _is_straight(self.centre_NT2[thing, self.shown_NT[thing]]):
            return False
        if circling is not False:
            return None
        angles = [angle for _, angle in corners]
        alternates = all(one * other < 0 for one, other in pairwise(angles))
        if motion == "turning":
            return True if any(abs(angle) >= 60 for angle in angles) else None
        if motion == "zigzag":
            return False if len(angles) <= 1 else True if len(angles) >= 3 and alternates else None
        # Turning back.
        if len(angles) == 1 and abs(angles[0]) >= 145:
            return True
        return False if angles and alternates and max(map(abs, angles)) < 115 else None

    def _happens(self, event: str, thing: int) -> tuple[Truth, float | None]:
        shown_T, gone_T, span = self.shown_NT[thing], self.gone_NT[thing], self._spans[thing]
        if event == "enters":
            late = self._is_late(thing)
            once = not gone_T[span].any()
            return (late if once or not late else None), float(span.start)
        if event == "leaves":
            leaving = self._is_leaving(thing)
            return leaving, float(span.stop - 1)
        if event == "returns":
            away = np.flatnonzero(gone_T[span])
            once = len(away) > 0 and len(away) == away[-1] - away[0] + 1
            back = span.start + away[-1] + 1 if once else 0
            return self._is_returning(thing), float(back) if once else None
        if not self.seen_enough(thing):
            return None, None
        if event == "turns":
            corners = self._corners[thing]
            return self.motion("turning")[thing], float(corners[0][0]) if len(corners) == 1 else None
        ranges_W, gap = self._ranges_NW[thing], not shown_T[span].all()
        if event == "stops":
            return _stop(ranges_W, gap, came=span.start > 0)
        happens, moment = _stop(ranges_W[::-1], gap, came=span.stop < self.moments)
        return happens, None if moment is None else self.moments - 1 - moment


def between(value: float, false_below: float, true_above: float) -> Truth:
    return True if value >= true_above else False if value <= false_below else None


def _extent(centre_NT2: np.ndarray) -> np.ndarray:
    high = np.fmax.reduce(centre_NT2, axis=1, initial=-np.inf)
    low = np.fmin.reduce(centre_NT2, axis=1, initial=np.inf)
    return np.maximum((high - low).max(axis=1), 0)


def _span(shown_T: np.ndarray) -> slice:
    """From the first to the last moment seen."""
    shown = np.flatnonzero(shown_T)
    return slice(int(shown[0]), int(shown[-1]) + 1) if len(shown) else slice(0, 0)


def _is_circling(centre_T2: np.ndarray) -> Truth:
    """By how many full turns the direction of motion changes; steps too short to have a direction do not count."""
    steps = np.diff(centre_T2, axis=0)
    steps = steps[np.hypot(steps[:, 0], steps[:, 1]) > 0.012]
    if len(steps) < 6:
        return False
    before, after = steps[:-1], steps[1:]
    turn = np.arctan2(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0], (before * after).sum(axis=1))
    gradual = np.abs(turn) < 0.7 * np.pi  # going back the way it came is not a turn to either side
    return between(abs(float(turn[gradual].sum())) / (2 * np.pi), 0.35, 0.75)


def _is_straight(centre_T2: np.ndarray) -> bool:
    """Whether the way hardly leaves the line from its first to its last place, and never goes back along it."""
    way = centre_T2 - centre_T2[0]
    length = float(np.hypot(*way[-1]))
    if length < 0.1:
        return False
    along = way @ way[-1] / length
    across = np.abs(way[:, 0] * way[-1, 1] - way[:, 1] * way[-1, 0]) / length
    return bool(across.max() < 0.04 and (np.maximum.accumulate(along) - along).max() < 0.05)


def _peaks(angle_M: np.ndarray) -> list[tuple[int, float]]:
    """The sharpest corners that are at least three moments apart, in order."""
    left, found = np.abs(angle_M), []
    while left.max(initial=0) >= 50:
        top = int(left.argmax())
        found.append((top + _ARM, float(angle_M[top])))
        left[max(top - 2, 0) : top + 3] = 0
    return sorted(found)


def _stop(ranges_W: np.ndarray, gap: bool, came: bool) -> tuple[Truth, float | None]:
    """Whether motion is followed by standing for a good while, and when it first stands, where it does so once.

    gap: whether some of the way is not seen, so that a stop could be there. came: whether it was not seen at first, so
    that it must have moved.
    """
    stands = [value < _STANDS for value in ranges_W.tolist()]
    moves = [value > _MOVES for value in ranges_W.tolist()]
    if not any(moves):
        stood = np.fmax.reduce(ranges_W, initial=0) < 0.06
        return (False if stood and not gap and not came else None), None
    stops: list[tuple[int, int]] = []  # first window and number of windows of each standstill after motion
    moving, last = False, 0
    for window, (still, going) in enumerate(zip(stands, moves, strict=True)):
        if going:
            moving, last = True, window
        elif still and moving:
            moving = False
            length = next((later for later, other in enumerate(stands[window:]) if not other), len(stands) - window)
            stops.append((window, length if window - last <= 7 else 0))
    clear = [window for window, length in stops if length >= _STAND_WINDOWS]
    if clear:
        return True, float(clear[0]) if len(stops) == 1 and not gap else None
    # Creeping on after a fast way may be called a stop.
    first = moves.index(True)
    creeps = sum(value < _CREEPS for value in ranges_W[first:].tolist()) >= _STAND_WINDOWS
    return (False if not stops and not creeps and not gap else None), None
