"""What a sentence can claim of a thing, and whether that is true as the video shows it.

A claim judges a thing True, False, or None where people could argue. A program is one sentence's claims; its answer is
the things of which all of them hold. Where any of that is arguable, the sentence is not said of this world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .world import Thing, Track, World

# A thing counts as in the picture when this share of it is seen.
_SEEN = 0.3


@dataclass(frozen=True)
class Looks:
    """Claims that an attribute has a value."""

    attribute: str
    value: str

    def true_of(self, thing: Thing, world: World) -> bool | None:
        if self.attribute != "size":
            return bool(getattr(thing, self.attribute) == self.value)
        radius_T = world.tracks[thing.id].radius_T
        if radius_T.max() < 0.125:
            return self.value == "small"
        if radius_T.min() > 0.14:
            return self.value == "large"
        return None


@dataclass(frozen=True)
class Moves:
    """Claims a motion over the whole video, as seen on the screen."""

    motion: str

    def true_of(self, thing: Thing, world: World) -> bool | None:
        track = world.tracks[thing.id]
        seen_T = track.seen_T >= _SEEN
        if self.motion == "late":
            return _is_late(track)
        if self.motion == "returning":
            return _is_returning(track)
        if seen_T.sum() < 6:
            return None
        # What a thing does out of the picture nobody can tell: its way as a whole is arguable.
        away = bool(track.gone_T[_span(seen_T)].any())
        if self.motion in _DIRECTIONS:
            axis, sign = _DIRECTIONS[self.motion]
            goes = _goes(track.centre_T2[seen_T], axis, sign)
            return None if away and goes else goes
        if self.motion == "circling":
            return None if away else _is_circling(track.centre_T2[seen_T])
        if self.motion == "still":
            return _is_still(track, seen_T)
        radius_T = track.radius_T[seen_T]
        growth = float(radius_T[-1] / radius_T[0])
        return _between(growth if self.motion == "approaching" else 1 / growth, 1.2, 1.6)


@dataclass(frozen=True)
class Program:
    """The claims of one sentence, all of which its referents must meet."""

    looks: tuple[Looks, ...]
    moves: Moves | None = None

    @property
    def claims(self) -> tuple[Looks | Moves, ...]:
        return (*self.looks, self.moves) if self.moves else self.looks


class Judge:
    """Answers programs about one world, judging each claim once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._verdicts: dict[Looks | Moves, list[bool | None]] = {}

    def verdicts(self, claim: Looks | Moves) -> list[bool | None]:
        """Whether the claim is true of each of the world's things, in their order."""
        if claim not in self._verdicts:
            self._verdicts[claim] = [claim.true_of(thing, self._world) for thing in self._world.things]
        return self._verdicts[claim]

    def referents(self, program: Program) -> tuple[int, ...] | None:
        """Ids of the things the program is true of, ascending; None where it is arguable of any thing."""
        rows = [self.verdicts(claim) for claim in program.claims]
        found = []
        for order, thing in enumerate(self._world.things):
            column = [row[order] for row in rows]
            if False in column:
                continue
            if None in column:
                return None
            found.append(thing.id)
        return tuple(sorted(found))


def _span(seen_T: np.ndarray) -> slice:
    """From the first to the last moment seen."""
    shown = np.flatnonzero(seen_T)
    return slice(shown[0], shown[-1] + 1)


_DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}


def _between(value: float, false_below: float, true_above: float) -> bool | None:
    return True if value >= true_above else False if value <= false_below else None


def _goes(centre_T2: np.ndarray, axis: int, sign: int) -> bool | None:
    """True for a clear, steady way in that direction; false where it never goes far in it, or circles."""
    along = sign * centre_T2[:, axis]
    across = centre_T2[:, 1 - axis]
    farthest = float(np.max(along - np.minimum.accumulate(along)))
    back = float(np.max(np.maximum.accumulate(along) - along))
    net, aside = float(along[-1] - along[0]), float(abs(across[-1] - across[0]))
    if farthest < 0.1 or _is_circling(centre_T2):
        return False
    return True if net > 0.3 and back < 0.06 and aside < 0.5 * net else None


def _is_circling(centre_T2: np.ndarray) -> bool | None:
    """By how many full turns the direction of motion changes; steps too short to have a direction do not count."""
    steps = np.diff(centre_T2, axis=0)
    steps = steps[np.hypot(steps[:, 0], steps[:, 1]) > 0.012]
    if len(steps) < 6:
        return False
    before, after = steps[:-1], steps[1:]
    turn = np.arctan2(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0], (before * after).sum(axis=1))
    gradual = np.abs(turn) < 0.7 * np.pi  # going back the way it came is not a turn to either side
    return _between(abs(float(turn[gradual].sum())) / (2 * np.pi), 0.35, 0.75)


def _is_still(track: Track, seen_T: np.ndarray) -> bool | None:
    centre_T2, radius_T = track.centre_T2[seen_T], track.radius_T[seen_T]
    moved = float(np.ptp(centre_T2, axis=0).max())
    growth = float(radius_T.max() / radius_T.min())
    if moved > 0.16 or growth > 1.3 or track.gone_T.any():
        return False
    return True if moved < 0.1 and growth < 1.1 else None


def _is_late(track: Track) -> bool | None:
    if track.seen_T[0] >= _SEEN:
        return False
    late = track.gone_T[:3].all() and track.seen_T[-6:].min() >= _SEEN and not _leaves_again(track)
    return True if late else None


def _leaves_again(track: Track) -> bool:
    shown = np.flatnonzero(~track.gone_T)
    return bool(track.gone_T[shown[0] :].any())


def _is_returning(track: Track) -> bool | None:
    seen_T = track.seen_T >= _SEEN
    if not seen_T.any():
        return None
    span = _span(seen_T)
    if track.gone_T[span].sum() >= 3 and seen_T[0] and seen_T[-1]:
        return True
    return False if track.seen_T[span].min() > 0.1 and not track.gone_T[span.stop :].any() else None
