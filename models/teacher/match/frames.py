"""What a matcher is shown: a few frames in which the tracks are seen, and the tracks as it sees them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from datasets.tracks import Tracks
from models.teacher.interfaces import TrackView
from util.boxes import masks_to_boxes

FRAMES = 6


def track_views(tracks: Tracks) -> list[TrackView]:
    """Every track as a matcher sees it, in the order of rows."""
    boxes_NT4, presence_NT = tracks.pixel_boxes_NT4(), seen_NT(tracks)

    def reader(row: int) -> Callable[[int], np.ndarray]:
        return lambda frame: tracks.mask(row, frame)

    return [
        TrackView(row, track.noun_scores, boxes_NT4[row], presence_NT[row], reader(row))
        for row, track in enumerate(tracks.tracks)
    ]


def view_of(index: int, masks_THW: np.ndarray) -> TrackView:
    """A track of masks bool that are in memory."""
    presence_T = np.asarray(masks_THW.any((1, 2))).astype(np.float64)
    return TrackView(index, {}, boxes_of(masks_THW), presence_T, lambda frame: masks_THW[frame])


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """Boxes float64 [..., 4] of masks bool [..., H, W], xyxy in pixels, right and bottom exclusive; NaN where empty."""
    seen = np.asarray(masks.any((-2, -1)))
    return np.where(seen[..., None], masks_to_boxes(torch.from_numpy(masks)).double().numpy(), np.nan)


def seen_NT(tracks: Tracks) -> np.ndarray:
    """Chance f64 [N, T] that a track is seen; 0 where it has no mask."""
    return np.where(tracks.visible_NT(), tracks.presence_NT(), 0.0).astype(np.float64)


def choose_frames(seen_NT: np.ndarray, count: int = FRAMES) -> tuple[int, ...]:
    """Up to `count` frames, ascending, that show every track, each at moments far apart.

    Greedy: a frame's gain is the sum over tracks of seen * d / (d + T / count), with d the distance to the nearest
    chosen frame that shows the track, and the fraction 1 while there is none. So a frame is worth most to tracks that
    were not shown yet. A frame that shows nothing is not chosen.
    """
    length = seen_NT.shape[1]
    reach = length / count
    distance_NT = np.full(seen_NT.shape, np.inf)
    moments = np.arange(length)
    chosen: list[int] = []
    while len(chosen) < min(count, length):
        worth_NT = np.where(np.isinf(distance_NT), 1.0, distance_NT / (np.minimum(distance_NT, length) + reach))
        gain_T = (seen_NT * worth_NT).sum(0)
        gain_T[chosen] = 0.0
        best = int(gain_T.argmax())
        if gain_T[best] <= 0:
            break
        chosen.append(best)
        shown = seen_NT[:, best] > 0
        distance_NT[shown] = np.minimum(distance_NT[shown], np.abs(moments - best))
    return tuple(sorted(chosen))
