"""How two things stand to each other, by their measured tracks and whole masks: True, False, or None where arguable.

A relation is asked of a thing and another: `holds(kind, one, other)` is "one follows other". Lengths are in heights.
"""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np

from .motions import Motions, Truth
from .observed import MARGIN, Observed
from .program import SPATIAL

# Rows and columns by which a mask is widened: they touch within the first, and are clear of each other beyond the
# second. Things that collide may be last seen a step before they touch.
_TOUCH, _CLEAR = 3, 5
_ARM = 3  # steps over which a way before and after a meeting is measured
_JOINT = 8  # moments at which both must be seen for their places to be compared


class Relations:
    """Judges pairs of the N things of a video, each relation when first asked for."""

    def __init__(self, observed: Observed, motions: Motions) -> None:
        self._observed, self._motions = observed, motions
        self._centre_NT2 = motions.centre_NT2
        self._known: dict[tuple[str, int, int], Truth] = {}

    def holds(self, kind: str, one: int, other: int) -> Truth:
        """Whether `one` stands in this relation (of RELATIONS or MUTUAL) to `other`; places in the things' order."""
        if one == other:
            return False
        key = (kind, one, other)
        if key not in self._known:
            self._known[key] = self._judge(kind, one, other)
        return self._known[key]

    def _judge(self, kind: str, one: int, other: int) -> Truth:
        if kind in SPATIAL:
            return self._beside(kind, one, other)
        if not (self._motions.seen_enough(one) and self._motions.seen_enough(other)):
            return None
        if kind in ("collide", "collides"):
            return self._meet(one, other)[0]
        if kind in ("cross", "crosses"):
            return self._meet(one, other)[1]
        if kind == "exchange":
            return self._exchange(one, other)
        if kind == "follows":
            return self._follows(one, other)
        if kind == "overtakes":
            return self._overtakes(one, other)
        return self._is_faster(one, other) if kind == "faster" else self._is_faster(other, one)

    def _beside(self, kind: str, one: int, other: int) -> Truth:
        """At all moments at which both are seen; the other axis must not dominate."""
        apart_T2 = self._centre_NT2[one] - self._centre_NT2[other]
        joint_T2 = apart_T2[~np.isnan(apart_T2[:, 0])]
        if len(joint_T2) < min(_JOINT, self._motions.moments):
            return None
        axis, sign = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}[kind]
        along, across = sign * joint_T2[:, axis], np.abs(joint_T2[:, 1 - axis])
        if (along > np.maximum(0.1, 0.6 * across)).all():
            return True
        return False if along.max() < 0.03 else None

    def _is_faster(self, one: int, other: int) -> Truth:
        """By mean and by highest speed."""
        speeds_N2, path_N = self._motions.speeds_N2, self._motions.path_N
        if min(path_N[one], path_N[other]) < 0.2:
            return None
        ratio = speeds_N2[one] / np.maximum(speeds_N2[other], 1e-6)
        return True if ratio.min() > 1.5 else False if ratio.max() < 0.9 else None

    def _exchange(self, one: int, other: int) -> Truth:
        """Each ends where the other began."""
        ends = [self._motions.shown_NT[thing, moment] for thing in (one, other) for moment in (0, -1)]
        if not all(ends):
            away = [self._motions.gone_NT[thing, moment] for thing in (one, other) for moment in (0, -1)]
            return False if any(away) else None
        first_22, last_22 = self._centre_NT2[[one, other], 0], self._centre_NT2[[one, other], -1]
        missed = float(np.hypot(*(last_22 - first_22[::-1]).T).max())
        apart = float(np.hypot(*(first_22[0] - first_22[1])))
        if missed > 0.22 or apart < 0.12:
            return False
        return True if missed < 0.12 and apart > 0.25 else None

    def _follows(self, one: int, other: int) -> Truth:
        """Comes, some moments later, wherever the other has been."""
        path_N = self._motions.path_N
        if min(path_N[one], path_N[other]) < 0.15:
            return False
        mine_T2, theirs_T2 = self._centre_NT2[one], self._centre_NT2[other]
        # Row l: how far `one` is from where the other was l + 1 moments before.
        earlier_LT = np.arange(self._motions.moments) - np.arange(1, 13)[:, None]
        away_LT = np.hypot(*np.moveaxis(mine_T2 - theirs_T2[earlier_LT], -1, 0))
        away_LT[(earlier_LT < 0) | np.isnan(away_LT)] = 0
        told_L = ((earlier_LT >= 0) & ~np.isnan(mine_T2[:, 0]) & ~np.isnan(theirs_T2[earlier_LT, 0])).sum(axis=1)
        mean_L = np.where(told_L >= 9, away_LT.sum(axis=1) / np.maximum(told_L, 1), np.inf)
        nearest = float(mean_L.min())
        best = float(mean_L[1:][away_LT[1:].max(axis=1) < 0.14].min(initial=np.inf))
        if nearest > 0.16:
            return False if np.isfinite(nearest) else None
        now_T = np.hypot(*(mine_T2 - theirs_T2).T)
        apart = float(np.nanmean(now_T)) if not np.isnan(now_T).all() else 0.0
        far = min(path_N[one], path_N[other]) > 0.35
        return True if best < 0.07 and far and apart > 0.12 and self._mostly_ahead(other, one) else None

    def _mostly_ahead(self, one: int, other: int) -> bool:
        """Whether `one` is in front of `other` in the direction in which `other` goes, whenever that can be told."""
        steps_T2 = self._centre_NT2[other, 2:] - self._centre_NT2[other, :-2]
        ahead_T = ((self._centre_NT2[one] - self._centre_NT2[other])[1:-1] * steps_T2).sum(axis=-1)
        told_T = np.hypot(*steps_T2.T) > 0.03
        return bool(told_T.sum() >= 6 and (ahead_T[told_T] > 0).mean() > 0.7)

    def _overtakes(self, one: int, other: int) -> Truth:
        """Both go the same way, one from behind the other to before it."""
        joint_T = self._motions.shown_NT[one] & self._motions.shown_NT[other]
        if joint_T.sum() < _JOINT:
            return None
        mine_T2, theirs_T2 = self._centre_NT2[one, joint_T], self._centre_NT2[other, joint_T]
        my_way, their_way = mine_T2[-1] - mine_T2[0], theirs_T2[-1] - theirs_T2[0]
        mine, theirs = float(np.hypot(*my_way)), float(np.hypot(*their_way))
        if self._motions.extent_N[one] < 0.1:
            return False
        if min(mine, theirs) < 0.08:
            return None
        cosine = float(my_way @ their_way) / (mine * theirs)
        heading = my_way / mine + their_way / theirs
        if cosine < 0.3:
            return False
        heading = heading / np.hypot(*heading)
        ahead_T = (mine_T2 - theirs_T2) @ heading
        if ahead_T.min() > 0.03 or ahead_T.max() < -0.03 or ahead_T[-1] < ahead_T[0] - 0.1:
            return False
        aside_T = np.abs((mine_T2 - theirs_T2) @ np.array([-heading[1], heading[0]]))
        near = float(aside_T[np.abs(ahead_T).argmin()]) < 0.4
        steady = cosine > 0.85 and min(mine, theirs) > 0.2 and near
        return True if steady and ahead_T[0] < -0.1 and ahead_T[-1] > 0.1 else None

    def _meet(self, one: int, other: int) -> tuple[Truth, Truth]:
        """Whether the two collide, and whether they cross.

        They collide where they touch, hardly overlap, and both are pushed off their ways; they cross where one passes
        over the other and both keep their ways. Things far from each other at all times do neither; of what their ways
        do at different times nothing is said.
        """
        if not self._near_NNT[one, other].any():
            ways = self._centre_NT2[one][:, None] - self._centre_NT2[other][None]
            closest = np.fmin.reduce(np.hypot(ways[..., 0], ways[..., 1]), axis=None)
            return False, False if closest > 0.1 else None
        touch = np.flatnonzero(self._touch_NNT[one, other])
        if not len(touch) or touch[-1] - touch[0] + 1 != len(touch):
            return None, None
        first, last = touch[0] - 1, touch[-1] + 1
        if first < _ARM or last + _ARM >= self._motions.moments:
            return None, None
        pair_2T2 = self._centre_NT2[[one, other]]
        before_22 = pair_2T2[:, first] - pair_2T2[:, first - _ARM]
        after_22 = pair_2T2[:, last + _ARM] - pair_2T2[:, last]
        changed = float(np.hypot(*(after_22 - before_22).T).max())
        deepest = float(self._overlap_NNT[one, other].max())
        apart_T = np.hypot(*(pair_2T2[0] - pair_2T2[1]).T)
        parted = min(apart_T[first - _ARM] - apart_T[first], apart_T[last + _ARM] - apart_T[last]) > 0.05
        if not parted:  # also where they are not seen throughout
            return None, None
        if deepest < 0.08:
            # Each is pushed away from the other; a thing that turns of its own will while it passes is not.
            normal = pair_2T2[0, touch].mean(axis=0) - pair_2T2[1, touch].mean(axis=0)
            pushed_2 = (after_22 - before_22) @ (normal / np.hypot(*normal)) * (1, -1)
            return (True, False) if pushed_2.min() > 0.08 else (None, None)
        speeds = np.hypot(*np.concatenate([before_22, after_22]).T)
        crossing = np.hypot(*(before_22[0] - before_22[1])) > 0.08
        return (False, True) if deepest > 0.3 and changed < 0.06 and speeds.min() > 0.05 and crossing else (None, None)

    @cached_property
    def _frames_NTHW(self) -> np.ndarray:
        return self._observed.whole_NTHW[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]

    @cached_property
    def _overlap_NNT(self) -> np.ndarray:
        """Pixels that two whole masks share, as a share of the smaller."""
        words_NTK = _words(self._frames_NTHW)
        shared_NNT = _shared(words_NTK, words_NTK)
        area_NT = np.maximum(np.moveaxis(np.diagonal(shared_NNT), -1, 0), 1)
        return shared_NNT / np.minimum(area_NT[:, None], area_NT[None])

    @cached_property
    def _touch_NNT(self) -> np.ndarray:
        return self._met(self._wide_NTHW)

    @cached_property
    def _near_NNT(self) -> np.ndarray:
        return self._met(_widened(self._wide_NTHW, _CLEAR - _TOUCH))

    @cached_property
    def _wide_NTHW(self) -> np.ndarray:
        return _widened(self._observed.whole_NTHW, _TOUCH)

    def _met(self, wide_NTHW: np.ndarray) -> np.ndarray:
        """Whether one thing's widened mask reaches the other's own inside the frame; bool [N, N, T]."""
        frames_NTHW = wide_NTHW[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
        return _shared(_words(frames_NTHW), _words(self._frames_NTHW)) > 0


def _widened(masks_NTHW: np.ndarray, pixels: int) -> np.ndarray:
    """Masks and what lies within so many rows and columns of them; a canvas's margin keeps its frame from the next."""
    kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    rows = np.ascontiguousarray(masks_NTHW).view(np.uint8).reshape(-1, masks_NTHW.shape[-1])
    return cv2.dilate(rows, kernel).reshape(masks_NTHW.shape).view(bool)


def _words(masks_NTHW: np.ndarray) -> np.ndarray:
    """Each mask as one row of 64-bit words, [N, T, K]."""
    count, moments = masks_NTHW.shape[:2]
    bits = np.packbits(masks_NTHW.reshape(count, moments, -1), axis=-1)
    padded = np.zeros((count, moments, -(-bits.shape[-1] // 8) * 8), np.uint8)
    padded[..., : bits.shape[-1]] = bits
    return padded.view(np.uint64)


def _shared(one_NTK: np.ndarray, other_NTK: np.ndarray) -> np.ndarray:
    """Pixels that every two have in common, int [N, N, T]."""
    return np.bitwise_count(one_NTK[:, None] & other_NTK[None]).sum(axis=-1, dtype=np.int64)
