"""Tracks as files for people and for tools written for Grounded SAM 2.

overlay.mp4, contact_sheet.png, masks/, masks.json   as `main.py segment` writes them, an object for a sentence
mask_data/mask_FRAME.npy, json_data/mask_FRAME.json  Grounded SAM 2's layout, on request
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from datasets.tracks import Tracks
from util import rle
from util.answer_files import write_answer
from util.errors import InputError
from util.types import FrameSource

MOST = 65535  # objects that a uint16 can number


class TrackAnswer:
    """Tracks as an answered video (`util/answer_files.py`, Answer): each object stands for a sentence, its "ID: noun".

    Ids begin at 1 and are rows of the tracks plus one, as colours are, so that neither changes with the frame.
    scores  presence times predicted IoU; key  the frame of the first prompt
    """

    def __init__(self, tracks: Tracks) -> None:
        self._tracks = tracks
        empty = rle.encode(np.zeros(tracks.size, bool))
        self.sentences = [f"{row + 1}: {noun_of(tracks, row)}".rstrip(": ") for row in range(len(tracks))]
        self.masks = [[runs or empty for runs in row] for row in tracks.masks]
        self.presence_ET = tracks.presence_NT()
        self.scores_ET = certainty(tracks)
        self.key_E = np.array([track.prompts[0].frame for track in tracks.tracks], np.int64)

    def frame_masks(self, frame: int) -> np.ndarray:
        """Masks bool [N, H, W]."""
        return frame_masks(self._tracks, frame)


def noun_of(tracks: Tracks, row: int) -> str:
    """What a track is called: the noun whose detections have the largest sum of scores; "" where it has none."""
    sums: dict[str, float] = {}
    for vote in tracks.tracks[row].votes:
        sums[vote.noun] = sums.get(vote.noun, 0.0) + vote.score
    return max(sums, key=lambda noun: sums[noun], default=tracks.tracks[row].prompts[0].noun)


def certainty(tracks: Tracks) -> np.ndarray:
    """Presence times predicted IoU, f32 [N, T]; an IoU that was not predicted counts as 1."""
    certain: np.ndarray = tracks.presence_NT() * np.nan_to_num(tracks.predicted_iou_NT, nan=1.0)
    return certain


def frame_masks(tracks: Tracks, frame: int) -> np.ndarray:
    """Masks bool [N, H, W] of all tracks in a frame; they may overlap."""
    masks = [tracks.mask(row, frame) for row in range(len(tracks))]
    return np.array(masks, bool).reshape(len(tracks), *tracks.size)


def label_map(tracks: Tracks, frame: int) -> np.ndarray:
    """uint16 [H, W] of ids from 1, 0 for the background; where objects overlap, the more certain one."""
    labels = np.zeros(tracks.size, np.uint16)
    scores_N = certainty(tracks)[:, frame]
    for row in np.argsort(scores_N, kind="stable"):
        labels[tracks.mask(int(row), frame)] = row + 1
    return labels


def write_tracks(
    folder: Path,
    frames: FrameSource,
    tracks: Tracks,
    *,
    label_maps: bool = False,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> list[Path]:
    """Write everything into `folder`, the overlay at the video's own rate; returns what was written.

    masks.json holds, beside what `write_answer` puts there, how the tracks were made and each object's prompts and
    votes. Raises InputError on a full disk.
    """
    objects = [
        {"id": row + 1, "noun": noun_of(tracks, row), **_json(asdict(track))} for row, track in enumerate(tracks.tracks)
    ]
    facts = {"video": tracks.video_id, "generator": tracks.generator, "objects": objects}
    written = write_answer(folder, frames, tracks.frame_names, TrackAnswer(tracks), facts, progress=progress)
    return written + (write_label_maps(folder, tracks) if label_maps else [])


def write_label_maps(folder: Path, tracks: Tracks) -> list[Path]:
    """Write Grounded SAM 2's mask_data and json_data; returns the two folders.

    Its format has one object for each pixel: overlaps are lost in the arrays, while boxes are of the whole masks.
    `logit`, which is always 0 there, is the best detection score. Raises InputError on a full disk.
    """
    if len(tracks) > MOST:
        raise InputError(f"{len(tracks)} objects do not fit into label maps of {MOST}; leave mask_data out")
    arrays, described = folder / "mask_data", folder / "json_data"
    try:
        arrays.mkdir(parents=True, exist_ok=True)
        described.mkdir(parents=True, exist_ok=True)
        for frame, name in enumerate(tracks.frame_names):
            np.save(arrays / f"mask_{name}.npy", label_map(tracks, frame), allow_pickle=False)
            text = json.dumps(_frame_description(tracks, frame), ensure_ascii=False)
            (described / f"mask_{name}.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}; free space or choose another --out") from error
    return [arrays, described]


def _frame_description(tracks: Tracks, frame: int) -> dict[str, Any]:
    height, width = tracks.size
    boxes_N4 = tracks.pixel_boxes_NT4()[:, frame]
    labels: dict[str, Any] = {}
    for row in np.flatnonzero(tracks.visible_NT()[:, frame]).tolist():
        left, top, right, bottom = (round(float(side)) for side in boxes_N4[row])
        # there, the right and the bottom edge are the last pixel of the mask
        box = {"x1": left, "y1": top, "x2": right - 1, "y2": bottom - 1}
        score = max(tracks.tracks[row].noun_scores.values(), default=0.0)
        labels[str(row + 1)] = {"instance_id": row + 1, "class_name": noun_of(tracks, row), **box, "logit": score}
    return {
        "mask_name": f"mask_{tracks.frame_names[frame]}.npy",
        "mask_height": height,
        "mask_width": width,
        "promote_type": "mask",
        "labels": labels,
    }


def _json(track: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says nothing: prompts have many fields, of which few are used."""
    prompts = [
        {k: v for k, v in prompt.items() if v not in (None, "", ()) or k == "frame"} for prompt in track["prompts"]
    ]
    return {**track, "prompts": prompts}
