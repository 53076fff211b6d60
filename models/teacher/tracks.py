"""What a sweep followed, as tracks: objects that turned out to be one are merged, all is laid out in arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datasets.tracks import Source, Track, Tracks, make_track_id
from models.teacher.overlap import frame_ious, iou_bounds
from models.teacher.sweep import Followed, Seen
from util import rle
from util.errors import InputError
from util.types import ReferringVideo

DISPUTED = 0.5  # IoU of two members under which a frame of a merged track is not to be trusted


@dataclass(frozen=True)
class MergeConfig:
    """iou  mean over the frames that show both, from which two objects are one.
    frames, share  they must be seen together in this many frames, and in this share of the video.
    cluster  volume IoU from which tracks that stay apart are noted as showing the same.
    """

    iou: float = 0.7
    frames: int = 3
    share: float = 0.1
    cluster: float = 0.7

    def __post_init__(self) -> None:
        if not (0 < self.iou <= 1 and 0 < self.cluster <= 1 and 0 <= self.share <= 1) or self.frames < 1:
            raise InputError("iou, cluster and share of merging are shares up to 1, and frames is at least 1")


def to_tracks(
    objects: Sequence[Followed],
    video: ReferringVideo,
    config: MergeConfig,
    *,
    dataset: str,
    split: str,
    generator: Mapping[str, Any],
    segmenter: str,
    source: Source = "detector",
    key_frames: Sequence[int] = (),
) -> Tracks:
    """Tracks of a video, in the order in which they began; a merged one keeps the id of the older.

    `segmenter` tells models apart and goes into the ids; `generator` is written as it is.
    """
    apart = _arrays(objects, video)
    kept, ids = [], [make_track_id(source, followed.prompt, segmenter) for followed in objects]
    for members in _groups(apart, config):
        first = objects[members[0]]
        prompts = tuple(objects[member].prompt for member in members)
        votes = sorted((vote for m in members for vote in objects[m].votes), key=lambda v: (v.frame, v.noun, -v.iou))
        merged_from = tuple(ids[member] for member in members[1:])
        track = Track(ids[members[0]], "file" if not first.nouns else source, prompts, 0, merged_from, tuple(votes))
        kept.append((track, members))
    merged = _fused(apart, [members for _, members in kept])
    clusters = _clusters(merged, config.cluster)
    tracks = tuple(replace(track, cluster=cluster) for (track, _), cluster in zip(kept, clusters, strict=True))
    return Tracks(
        dataset,
        split,
        video.id,
        video.frame_names,
        video.frames.size,
        round(video.frames.fps, 6),
        generator,
        tracks,
        key_frames=tuple(key_frames),
        **vars(merged),
    )


@dataclass(frozen=True)
class _Arrays:
    """The fields of `Tracks` that have a row for each object."""

    masks: tuple[tuple[rle.RLE | None, ...], ...]
    object_score_NT: np.ndarray
    stability_NT: np.ndarray
    predicted_iou_NT: np.ndarray
    boxes_NT4: np.ndarray
    area_NT: np.ndarray
    tracked_NT: np.ndarray
    disputed_NT: np.ndarray
    pointers_NTD: np.ndarray | None


def _arrays(objects: Sequence[Followed], video: ReferringVideo) -> _Arrays:
    length, (height, width) = len(video.frames), video.frames.size
    rows = [[followed.seen.get(frame) for frame in range(length)] for followed in objects]
    nothing = Seen(None, 0, None, np.nan, np.nan, np.nan, None)

    def numbers(name: str) -> np.ndarray:
        values = [[getattr(seen or nothing, name) for seen in row] for row in rows]
        return np.array(values, np.float32).reshape(len(rows), length)

    boxes = np.array([[(seen and seen.box) or (np.nan,) * 4 for seen in row] for row in rows], np.float64)
    boxes = boxes.reshape(len(rows), length, 4) / [width, height, width, height]
    return _Arrays(
        tuple(tuple(seen.runs if seen else None for seen in row) for row in rows),
        numbers("object_score"),
        numbers("stability"),
        numbers("predicted_iou"),
        boxes.astype(np.float32),
        (numbers("area") / np.float32(height * width)).astype(np.float32),
        np.array([[seen is not None for seen in row] for row in rows], bool).reshape(len(rows), length),
        np.zeros((len(rows), length), bool),
        _pointers(rows),
    )


def _pointers(rows: Sequence[Sequence[Seen | None]]) -> np.ndarray | None:
    """Pointers f32 [N, T, D], zeros where an object was not tracked; None where there are none at all."""
    known = [seen.pointer_D for row in rows for seen in row if seen is not None and seen.pointer_D is not None]
    if not known:
        return None
    pointers = np.zeros((len(rows), len(rows[0]), len(known[0])), np.float32)
    for n, row in enumerate(rows):
        for t, seen in enumerate(row):
            if seen is not None and seen.pointer_D is not None:
                pointers[n, t] = seen.pointer_D
    return pointers


def _groups(apart: _Arrays, config: MergeConfig) -> list[list[int]]:
    """Members of each track, the oldest first: an object goes to the older one that it agrees with most."""
    groups: dict[int, list[int]] = {}
    for n in range(len(apart.masks)):
        agreed = {older: _agreement(apart, older, n, config) for older in groups}
        best = max(agreed, key=lambda older: agreed[older], default=None)
        if best is not None and agreed[best] >= config.iou:
            groups[best].append(n)
        else:
            groups[n] = [n]
    return list(groups.values())


def _agreement(apart: _Arrays, n: int, m: int, config: MergeConfig) -> float:
    """Mean IoU of two objects over the frames that show both; 0 where these are too few or it must be too low."""
    bounds = iou_bounds(apart.boxes_NT4, apart.area_NT, n, m)
    both = np.isfinite(bounds)
    length = len(both)
    if both.sum() < min(max(config.frames, config.share * length), length) or np.nanmean(bounds) < config.iou:
        return 0.0
    return float(np.mean(frame_ious(apart.masks[n], apart.masks[m])[both]))


def _fused(apart: _Arrays, groups: Sequence[Sequence[int]]) -> _Arrays:
    """One row for each group: in each frame that of its most certain member, and disputed where members differ."""
    length = apart.area_NT.shape[1]
    visible, certainty = apart.area_NT > 0, _certainty(apart)
    chosen_NT = np.zeros((len(groups), length), np.int64)
    disputed_NT = np.zeros((len(groups), length), bool)
    for row, members in enumerate(groups):
        ranks = np.where(apart.tracked_NT[members], certainty[members], -1)
        chosen_NT[row] = np.asarray(members)[ranks.argmax(0)]
        for other in members[1:]:
            together = apart.tracked_NT[members[0]] & apart.tracked_NT[other]
            agree = np.nan_to_num(frame_ious(apart.masks[members[0]], apart.masks[other]), nan=1.0) >= DISPUTED
            disputed_NT[row] |= together & ~agree & (visible[members[0]] | visible[other])
    frames = np.arange(length)
    pointers = None if apart.pointers_NTD is None else apart.pointers_NTD[chosen_NT, frames]
    return _Arrays(
        tuple(tuple(apart.masks[n][t] for t, n in enumerate(row)) for row in chosen_NT.tolist()),
        apart.object_score_NT[chosen_NT, frames],
        apart.stability_NT[chosen_NT, frames],
        apart.predicted_iou_NT[chosen_NT, frames],
        apart.boxes_NT4[chosen_NT, frames],
        apart.area_NT[chosen_NT, frames],
        apart.tracked_NT[chosen_NT, frames],
        disputed_NT,
        pointers,
    )


def _certainty(apart: _Arrays) -> np.ndarray:
    """Presence times stability [N, T]; what a model does not tell counts as certain, an empty mask as stable."""
    with np.errstate(over="ignore"):
        presence = 1 / (1 + np.exp(-apart.object_score_NT.astype(np.float64)))
    return np.where(np.isnan(presence), apart.area_NT > 0, presence) * np.nan_to_num(apart.stability_NT, nan=1.0)


def _clusters(merged: _Arrays, least: float) -> list[int]:
    """Number of each row's cluster: rows are joined, also over others, by a volume IoU of at least `least`."""
    clusters = list(range(len(merged.masks)))
    for n in range(len(clusters)):
        for m in range(n):
            if clusters[n] != clusters[m] and _volume_iou(merged, n, m, least) >= least:
                clusters = [clusters[m] if cluster == clusters[n] else cluster for cluster in clusters]
    order = {cluster: place for place, cluster in enumerate(dict.fromkeys(clusters))}
    return [order[cluster] for cluster in clusters]


def _volume_iou(merged: _Arrays, n: int, m: int, least: float) -> float:
    """Shared over covered pixels of all frames; 0 where that must be under `least`."""
    areas, others = merged.area_NT[n].astype(np.float64), merged.area_NT[m].astype(np.float64)
    larger = np.maximum(areas, others)
    bounds = np.nan_to_num(iou_bounds(merged.boxes_NT4, merged.area_NT, n, m))
    if not larger.sum() or (bounds * larger).sum() / larger.sum() < least:
        return 0.0
    # IoU i of areas a and b shares i (a + b) / (1 + i)
    ious = np.nan_to_num(frame_ious(merged.masks[n], merged.masks[m]))
    shared = (ious * (areas + others) / (1 + ious)).sum()
    return float(shared / ((areas + others).sum() - shared))
