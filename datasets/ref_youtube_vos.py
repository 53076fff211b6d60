"""Ref-YouTube-VOS on disk: reading the official tree as `ReferringVideo`, and writing one.

    ROOT/meta_expressions/SPLIT/meta_expressions.json   videos -> {frames, expressions -> {exp, obj_id}}
    ROOT/SPLIT/JPEGImages/VIDEO/FRAME.jpg
    ROOT/SPLIT/Annotations/VIDEO/FRAME.png              pixel = object id; not given for valid and test
    ROOT/train/meta.json                                categories; not needed here, written for other readers

A sentence has exactly one object. Listed frames are every fifth of 30 a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets import tree
from util.errors import InputError
from util.types import Expression, ReferringVideo

FPS = 6.0


def read_ref_youtube_vos(root: str | Path, split: str = "train") -> tree.LazyVideos:
    """The videos of a split, in the order of their ids.

    `valid` is the official validation list where both its JSON and test's are there: the videos of the first minus
    those of the second (202). Without answers in the JSON, `object_ids` and `masks` are None. A `fps` beside a video's
    frames (our writer's) goes before the constant 6. Raises InputError when the split is missing or malformed as a
    whole, and at an index for a fault of that video.
    """
    root = Path(root)
    videos = tree.read_videos(sentences_path(root, split))
    test = sentences_path(root, "test")
    if split == "valid" and test.is_file():
        others = tree.read_videos(test)
        videos = {video: entry for video, entry in videos.items() if video not in others}
    tree.require_folder(root / split / "JPEGImages", "the frames")
    return tree.LazyVideos(sorted(videos), partial(_video, root, split, videos))


def sentences_path(root: Path, split: str) -> Path:
    """Where the sentences of a split lie."""
    return root / "meta_expressions" / split / "meta_expressions.json"


def _objects(entry: dict[str, Any], where: str) -> list[int] | None:
    """The object of each sentence: all of a video's are given, or none (None)."""
    ids = [expression.get("obj_id") for expression in entry["expressions"].values()]
    if not ids or all(value is None for value in ids):
        return None
    if any(value is None for value in ids):
        raise InputError(f"{where} answers some of its sentences (obj_id) and others not; complete it")
    return [tree.whole_number(value, f"{where}, object id") for value in ids]


def _video(root: Path, split: str, videos: dict[str, dict[str, Any]], video: str) -> ReferringVideo:
    path = sentences_path(root, split)
    entry = tree.video_entry(videos, video, path)
    ids = _objects(entry, f"{path}: video {video}")
    names = tuple(entry["frames"])
    images = tree.require_folder(root / split / "JPEGImages" / video, "the frames of this video")
    frames = tree.frames_of(images, names, float(entry.get("fps", FPS)))
    expressions = tuple(
        Expression(key, value["exp"], None if ids is None else (ids[place],), value.get("type"))
        for place, (key, value) in enumerate(entry["expressions"].items())
    )
    masks = None
    if ids is not None:
        labels = tree.require_folder(root / split / "Annotations" / video, "the object masks of this video")
        masks = LabelMasks(labels, names, frames)
    return ReferringVideo(video, frames, names, expressions, masks)


class LabelMasks:
    """Masks of a video whose annotation PNGs hold object ids."""

    def __init__(self, folder: Path, names: Sequence[str], frames: tree.FolderVideo) -> None:
        self._folder, self._names, self._frames = folder, names, frames

    def path(self, index: int) -> Path:
        """Where frame `index`'s objects lie."""
        return self._folder / f"{self._names[index]}.png"

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool [N, H, W] and states int8 [N]. Raises InputError for a missing, unreadable or misfitting PNG."""
        labels = tree.read_labels(self.path(index), self._frames.size)
        masks = labels[None] == np.asarray(object_ids, np.int64)[:, None, None]
        return masks, tree.states_of(masks)


def write_ref_youtube_vos(
    videos: Iterable[ReferringVideo],
    root: str | Path,
    split: str,
    *,
    quality: int = tree.JPEG_QUALITY,
    category: str = "object",
) -> tree.Written:
    """Write videos as a new split of the tree at `root`; `quality` is the JPEGs', `category` what objects are called.

    Sentences with several objects or none are left out: the layout has no place for them. The JSON comes last, so an
    interrupted tree is not taken for a whole one. Raises InputError for a split that is there already, objects
    that overlap, or an id beyond 255.
    """
    root = Path(root)
    folder = tree.new_folder(root / tree.plain_name(split, root))
    tree.new_folder(sentences_path(root, split).parent)
    listed: dict[str, Any] = {}
    objects: dict[str, Any] = {}
    left_out: list[str] = []
    for video in videos:
        tree.plain_name(video.id, root)
        kept = [e for e in video.expressions if e.object_ids is None or len(e.object_ids) == 1]
        left_out += [
            f"{video.id}/{e.id}: {len(e.object_ids or ())} objects" for e in video.expressions if e not in kept
        ]
        tree.write_frames(folder / "JPEGImages" / video.id, video, quality)
        ids = sorted({i for e in video.expressions for i in e.object_ids or ()})
        if video.masks is not None:
            write_labels(folder / "Annotations" / video.id, video, ids)
        listed[video.id] = {
            "expressions": {e.id: _expression(e) for e in kept},
            "frames": list(video.frame_names),
            "fps": video.frames.fps,
        }
        objects[video.id] = {"objects": {str(i): {"category": category} for i in ids}}
    tree.write_json(folder / "meta.json", {"videos": objects})
    tree.write_json(sentences_path(root, split), {"videos": listed})
    return tree.Written(folder, len(listed), sum(len(v["expressions"]) for v in listed.values()), tuple(left_out))


def _expression(expression: Expression) -> dict[str, Any]:
    entry: dict[str, Any] = {"exp": expression.text}
    if expression.object_ids:
        entry["obj_id"] = str(expression.object_ids[0])
    return entry | ({"type": expression.type} if expression.type else {})


def write_labels(folder: Path, video: ReferringVideo, ids: Sequence[int]) -> None:
    """A palette PNG of object ids for every frame, in a new folder.

    Raises InputError for an id that is not 1 to 255, and objects that overlap.
    """
    if ids and not 1 <= min(ids) <= max(ids) <= 255:
        raise InputError(f"video {video.id}: object ids must be 1 to 255 in a palette PNG; write MeViS layout instead")
    assert video.masks is not None
    folder.mkdir(parents=True)
    for index, name in enumerate(video.frame_names):
        masks, _ = video.masks.read(index, ids)
        if (masks.sum(0) > 1).any():
            raise InputError(f"video {video.id}: objects overlap in frame {name}; write MeViS layout instead")
        labels = (masks * np.asarray(ids, np.uint8)[:, None, None]).sum(0, dtype=np.uint8)
        image = Image.fromarray(labels.reshape(video.frames.size))
        image.putpalette(PALETTE)
        image.save(folder / f"{name}.png")


def _palette() -> list[int]:
    """PASCAL VOC's colours: bits of the id spread over the three channels, so that neighbours differ strongly."""
    colours = []
    for label in range(256):
        for channel in range(3):
            bits = (label >> channel + 3 * place & 1 for place in range(3))
            colours.append(sum(bit << 7 - place for place, bit in enumerate(bits)))
    return colours


PALETTE = _palette()
