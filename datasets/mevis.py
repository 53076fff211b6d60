"""MeViS on disk: reading the official tree as `ReferringVideo`, and writing one.

    ROOT/SPLIT/meta_expressions.json   videos -> {frames, expressions -> {exp, obj_id, anno_id}}
    ROOT/SPLIT/mask_dict.json          annotation id -> one COCO RLE or null for each frame
    ROOT/SPLIT/JPEGImages/VIDEO/FRAME.jpg

A sentence has any number of objects, or none. `object_ids` are the annotation ids, which are unique in a split;
`valid` and `test` come without them and without mask_dict.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets import tree
from util import rle
from util.errors import InputError
from util.types import Expression, ReferringVideo

FPS = 6.0  # 13.2 s and 79 frames of a mean video, in the data set's own statistics

_Answers = list[tuple[int, ...] | None]  # annotation ids of each sentence, None where they are not given


def read_mevis(root: str | Path, split: str = "train") -> tree.LazyVideos:
    """The videos of a split, in the order of their ids.

    Sentences without `anno_id` get `object_ids` None, and videos of such sentences no masks. A `fps` beside a video's
    frames (our writer's) goes before the constant. Raises InputError when the split is missing or malformed as a whole,
    and at an index for a fault of that video.
    """
    folder = Path(root) / split
    videos = tree.read_videos(folder / "meta_expressions.json")
    tree.require_folder(folder / "JPEGImages", "the frames")
    return tree.LazyVideos(sorted(videos), partial(_video, folder, videos, Annotations(folder / "mask_dict.json")))


def _answers(entry: dict[str, Any], where: str) -> _Answers:
    found: _Answers = []
    for expression in entry["expressions"].values():
        ids = expression.get("anno_id")
        if ids is None:
            found.append(None)
            continue
        values = ids if isinstance(ids, list) else [ids]
        found.append(tuple(dict.fromkeys(tree.whole_number(value, f"{where}, annotation id") for value in values)))
    return found


def _video(folder: Path, videos: dict[str, dict[str, Any]], annotations: Annotations, video: str) -> ReferringVideo:
    path = folder / "meta_expressions.json"
    entry = tree.video_entry(videos, video, path)
    answers = _answers(entry, f"{path}: video {video}")
    if any(answers):
        annotations.require()
    names = tuple(entry["frames"])
    images = tree.require_folder(folder / "JPEGImages" / video, "the frames of this video")
    frames = tree.frames_of(images, names, float(entry.get("fps", FPS)))
    expressions = tuple(
        Expression(key, value["exp"], ids, value.get("type"))
        for (key, value), ids in zip(entry["expressions"].items(), answers, strict=True)
    )
    masks = RunLengthMasks(annotations, video, frames) if None not in answers else None
    return ReferringVideo(video, frames, names, expressions, masks)


class Annotations:
    """mask_dict.json, read when the first mask is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def require(self) -> None:
        """Raises InputError when the file is missing."""
        if not self.path.is_file():
            raise InputError(
                f"missing {self.path}: the masks (mask_dict.json) are expected there; check root and split"
            )

    @cached_property
    def content(self) -> dict[str, list[Any]]:
        content = tree.read_json(self.path, "the masks (mask_dict.json)")
        if not isinstance(content, dict):
            raise InputError(f"{self.path} is not a mapping of annotation ids to masks; download it again")
        return content


class RunLengthMasks:
    """Masks of a video out of mask_dict.json."""

    def __init__(self, annotations: Annotations, video: str, frames: tree.FolderVideo) -> None:
        self.annotations, self._video, self._frames = annotations, video, frames

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool [N, H, W] and states int8 [N]. Raises InputError for an unknown id or a mask that does not fit."""
        masks = np.zeros((len(object_ids), *self._frames.size), bool)
        for place, annotation in enumerate(object_ids):
            where = f"{self.annotations.path}: annotation {annotation} of video {self._video}"
            runs = self.annotations.content.get(str(annotation))
            if runs is None:
                raise InputError(f"{where} is missing; the sentences and the masks are of different releases")
            if not isinstance(runs, list) or len(runs) != len(self._frames):
                found = f"{len(runs)} masks" if isinstance(runs, list) else "no list of masks"
                raise InputError(f"{where} has {found} for {len(self._frames)} frames; download it again")
            if runs[index]:
                masks[place] = tree.decode_mask(runs[index], self._frames.size, f"{where}, frame {index}")
        return masks, tree.states_of(masks)


def write_mevis(
    videos: Iterable[ReferringVideo], root: str | Path, split: str, *, quality: int = tree.JPEG_QUALITY
) -> tree.Written:
    """Write videos as a new split of the tree at `root`; `quality` is the JPEGs'.

    The objects of all videos are numbered anew, since annotation ids are unique in a split; `obj_id` keeps the
    video's own. The JSON comes last, so an interrupted tree is not taken for a whole one. Raises InputError for a
    split that is there already.
    """
    folder = tree.new_folder(Path(root) / tree.plain_name(split, Path(root)))
    listed: dict[str, Any] = {}
    masks: dict[str, list[rle.RLE | None]] = {}
    for number, video in enumerate(videos):
        tree.plain_name(video.id, folder)
        tree.write_frames(folder / "JPEGImages" / video.id, video, quality)
        ids = sorted({i for e in video.expressions for i in e.object_ids or ()}) if video.masks is not None else []
        annotation = {i: len(masks) + place for place, i in enumerate(ids)}
        masks |= {str(annotation[i]): runs for i, runs in zip(ids, _runs(video, ids), strict=True)}
        listed[video.id] = {
            "vid_id": number,
            "expressions": {e.id: _expression(e, annotation) for e in video.expressions},
            "frames": list(video.frame_names),
            "fps": video.frames.fps,
        }
    tree.write_json(folder / "mask_dict.json", masks)
    tree.write_json(folder / "meta_expressions.json", {"videos": listed})
    return tree.Written(folder, len(listed), sum(len(v["expressions"]) for v in listed.values()), ())


def _expression(expression: Expression, annotation: dict[int, int]) -> dict[str, Any]:
    entry: dict[str, Any] = {"exp": expression.text}
    if expression.object_ids is not None and set(expression.object_ids) <= set(annotation):
        entry |= {"obj_id": list(expression.object_ids), "anno_id": [annotation[i] for i in expression.object_ids]}
    return entry | ({"type": expression.type} if expression.type else {})


def _runs(video: ReferringVideo, ids: Sequence[int]) -> list[list[rle.RLE | None]]:
    """For each object, its mask in each frame, or None where it is not seen."""
    runs: list[list[rle.RLE | None]] = [[] for _ in ids]
    for index in range(len(video.frames) if ids and video.masks is not None else 0):
        masks, _ = video.masks.read(index, ids)  # type: ignore[union-attr]
        for row, mask in zip(runs, masks, strict=True):
            row.append(rle.encode(mask) if mask.any() else None)
    return runs
