"""Pseudo masklets on disk, format `rvos-masklets/1`: what a teacher made of unlabelled video, for a student to learn.

    ROOT/dataset.json                   {"schema": "rvos-masklets/1", counts, models, licence tags, ...}
    ROOT/SPLIT/meta_expressions.json    as MeViS's; videos also have "size" [h, w], sentences a "weight" and a "status"
    ROOT/SPLIT/mask_dict.json           annotation id -> one COCO RLE or null for each frame
    ROOT/SPLIT/frame_state.json         annotation id -> one letter for each frame: P present, A absent, I ignore
    ROOT/SPLIT/JPEGImages/VIDEO/FRAME.jpg
    ROOT/SPLIT/quality.jsonl, rejected.jsonl   of a teacher: how each sentence was decided, what was measured, why not

Readers of MeViS take a split as it is. What they cannot know is in the letters: P has a mask, A is a true negative, and
I carries no loss. A sentence has any number of objects, or, with the status `no_target`, none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets import evaluation_videos, tree
from datasets.masklet_rows import require_rows
from datasets.mevis import Annotations, RunLengthMasks
from util import rle
from util.errors import InputError
from util.types import ABSENT, IGNORE, PRESENT, Expression, ReferringVideo

SCHEMA = "rvos-masklets/1"
_LETTERS = {"A": ABSENT, "P": PRESENT, "I": IGNORE}


def read_masklets(root: str | Path, split: str = "train") -> tree.LazyVideos:
    """The videos of a split, in the order of their ids; `object_ids` are the annotation ids.

    Raises InputError for another schema, models or data without a stated licence, counts that are not those of the
    split, rows of quality that contradict the sentences, when a file of the split is missing or malformed as a whole,
    when no sentence was kept, and at an index for a fault of that video.
    """
    folder = Path(root) / split
    description = Path(root) / "dataset.json"
    described = _read_description(description)
    videos = tree.read_videos(folder / "meta_expressions.json")
    count = _counted(description, described, split, videos)
    require_rows(folder / "quality.jsonl", videos)
    if described.get("contaminated") is not True:
        instead = "a student that trains on them cannot be scored there: make the masklets again without them"
        evaluation_videos.refuse(videos, evaluation_videos.evaluation_videos(), str(folder), instead)
    if not videos:
        raise InputError(f"{folder} holds no masklets: no sentence was kept, and {folder / 'rejected.jsonl'} says why")
    tree.require_folder(folder / "JPEGImages", "the frames")
    annotations, states = _Masklets(folder / "mask_dict.json", count), _States(folder / "frame_state.json")
    annotations.require()
    return tree.LazyVideos(sorted(videos), partial(_video, folder, videos, annotations, states))


def _read_description(path: Path) -> dict[str, Any]:
    content = tree.read_json(path, "the description of the masklets (dataset.json)")
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA or not isinstance(content.get("counts", {}), dict):
        raise InputError(f"{path} has the schema {schema!r}, and {SCHEMA} is read here; make the masklets again")
    tags, models = content.get("licence_tags"), content.get("models")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InputError(
            f"{path} has no licence_tags, a list of words, so that nobody can tell what may be done with the masklets; "
            "make the masklets again"
        )
    for model in models if isinstance(models, list) else [None]:
        licence = model.get("licence") if isinstance(model, dict) else None
        if not isinstance(licence, str) or not licence:
            raise InputError(f"{path}: a model states no licence ({model!s:.99}); make the masklets again")
    return content


def _counted(path: Path, described: dict[str, Any], split: str, videos: dict[str, Any]) -> int:
    """How many masklets the split is said to have. Raises InputError when its videos or sentences are miscounted."""
    counted = described.get("counts", {}).get(split)
    masklets = counted.get("masklets") if isinstance(counted, dict) else None
    kept = (entry.get("expressions") if isinstance(entry, dict) else None for entry in videos.values())
    sentences = sum(len(expressions) for expressions in kept if isinstance(expressions, dict))
    true = {"videos": len(videos), "expressions": sentences, "masklets": masklets}
    if counted != true or isinstance(masklets, bool) or not isinstance(masklets, int):
        raise InputError(
            f"{path} counts {counted!s:.99} in {split}, where there are {len(videos)} videos and {sentences} "
            "expressions; make the masklets again"
        )
    return masklets


def _video(
    folder: Path, videos: dict[str, dict[str, Any]], annotations: Annotations, states: _States, video: str
) -> ReferringVideo:
    path = folder / "meta_expressions.json"
    entry = tree.video_entry(videos, video, path)
    fps = entry.get("fps")
    if fps is None:
        raise InputError(f'{path}: video {video} has no "fps"; make the masklets again')
    names = tuple(entry["frames"])
    images = tree.require_folder(folder / "JPEGImages" / video, "the frames of this video")
    frames = tree.frames_of(images, names, float(fps))
    if entry.get("size") != list(frames.size):
        said = f"{entry.get('size')!s:.99}"
        raise InputError(f"{path}: video {video} has the size {said}, but its frames another size, {list(frames.size)}")
    expressions = tuple(
        _read_expression(key, value, f"{path}: video {video}, expression {key}")
        for key, value in entry["expressions"].items()
    )
    return ReferringVideo(video, frames, names, expressions, StatedMasks(annotations, states, video, frames))


def _read_expression(key: str, entry: dict[str, Any], where: str) -> Expression:
    local, ids, weight = entry.get("obj_id"), entry.get("anno_id"), entry.get("weight", 1.0)
    if not isinstance(local, list) or not isinstance(ids, list) or len(local) != len(ids):
        raise InputError(f"{where} needs obj_id and anno_id, two lists of one length; make the masklets again")
    if not ids and entry.get("status") != "no_target":
        raise InputError(f"{where} has no objects, and its status is not no_target; leave it out")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise InputError(f"{where} has the weight {weight!r}; a weight is a number from 0 to 1")
    object_ids = tuple(dict.fromkeys(tree.whole_number(i, f"{where}, anno_id") for i in ids))
    return Expression(key, entry["exp"], object_ids, entry.get("type"), float(weight))


class _Masklets(Annotations):
    """mask_dict.json of `count` masklets, numbered from 0."""

    def __init__(self, path: Path, count: int) -> None:
        super().__init__(path)
        self._count = count

    @cached_property
    def content(self) -> dict[str, list[Any]]:
        content = super().content
        expected = set(map(str, range(self._count)))
        if content.keys() != expected:
            one = min(content.keys() ^ expected)
            fault = "is missing" if one in expected else "is not expected"
            raise InputError(
                f"{self.path} has {len(content)} annotations: annotation {one:.50} of {self._count}, numbered from 0, "
                f"{fault}; make the masklets again"
            )
        return content


class _States:
    """frame_state.json, read when the first mask is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(f"missing {path}: the states of the frames are expected there; make the masklets again")

    @cached_property
    def content(self) -> dict[str, Any]:
        content = tree.read_json(self.path, "the states of the frames (frame_state.json)")
        if not isinstance(content, dict):
            raise InputError(f"{self.path} is not a mapping of annotation ids to letters; make the masklets again")
        return content


class StatedMasks(RunLengthMasks):
    """Masks of a video, and in which frames they are meant: in an ignored one there may be a mask or none."""

    def __init__(self, annotations: Annotations, states: _States, video: str, frames: tree.FolderVideo) -> None:
        super().__init__(annotations, video, frames)
        self._states, self._length = states, len(frames)

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool [N, H, W] and states int8 [N]. Raises InputError for a mask that contradicts its letter, or is
        a mask of nothing: where an object is not seen there is null."""
        masks, seen = super().read(index, object_ids)
        for object_id, state in zip(object_ids, seen, strict=True):
            if state == ABSENT and self.annotations.content[str(object_id)][index] is not None:
                where = f"{self.annotations.path}: annotation {object_id}, frame {index}"
                raise InputError(f"{where} is a mask of nothing, where null belongs; make the masklets again")
        states = np.array([self._state(index, object_id) for object_id in object_ids], np.int8)
        wrong = np.flatnonzero((states != IGNORE) & (states != seen))
        if wrong.size:
            letter, found = "AP"[states[wrong[0]]], "a mask" if seen[wrong[0]] else "no mask"
            raise InputError(
                f"{self._states.path}: annotation {object_ids[wrong[0]]}, frame {index} is {letter}, but has {found}; "
                "make the masklets again"
            )
        return masks, states

    def _state(self, index: int, object_id: int) -> int:
        letters = self._states.content.get(str(object_id))
        if not isinstance(letters, str) or len(letters) != self._length or not set(letters) <= set(_LETTERS):
            raise InputError(
                f"{self._states.path}: annotation {object_id} needs one letter of P, A and I for each of "
                f"{self._length} frames; make the masklets again"
            )
        return _LETTERS[letters[index]]


def write_masklets(
    videos: Iterable[ReferringVideo],
    root: str | Path,
    split: str,
    *,
    quality: int = tree.JPEG_QUALITY,
    about: Mapping[str, Any] | None = None,
    more: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
    lines: Mapping[str, Callable[[], Iterable[Mapping[str, Any]]]] | None = None,
) -> tree.Written:
    """Write videos as a new split of the tree at `root`; `quality` is the JPEGs'.

    about  what dataset.json says beside the counts; more  (video, sentence) -> what its entry says beside the format's
    lines  file name -> rows of JSON, asked for after the last video; NaN is written as null

    Annotation ids are given in the order of (video, object). Sentences without an answer, and videos of one frame, are
    left out. dataset.json comes last, so an interrupted tree is not taken for a whole one; equal videos give equal
    bytes. Raises InputError for a split that is there already, a tree of another schema, and a video of more than 255
    objects.
    """
    root = Path(root)
    description = root / "dataset.json"
    described: dict[str, Any] = {"schema": SCHEMA, "models": [], "licence_tags": [], "counts": {}}
    described |= _read_description(description) if description.exists() else {}
    folder = tree.new_folder(root / tree.plain_name(split, root))
    entries: dict[str, Any] = {}
    tracks: dict[tuple[str, int], _Track] = {}
    left_out: list[str] = []
    for video in videos:
        tree.plain_name(video.id, folder)
        if len(video.frames) < 2:
            left_out.append(f"{video.id}: one frame")
            continue
        answered = [e for e in video.expressions if e.object_ids is not None and video.masks is not None]
        left_out += [f"{video.id}/{e.id}: no answer" for e in video.expressions if e not in answered]
        tree.write_frames(folder / "JPEGImages" / video.id, video, quality)
        ids = sorted({i for e in answered for i in e.object_ids or ()})
        tracks |= {(video.id, place): track for place, track in enumerate(_tracks(video, ids), 1)}
        entries[video.id] = {
            "frames": list(video.frame_names), "size": list(video.frames.size), "fps": round(video.frames.fps, 6),
            "expressions": {e.id: {**_expression(e, ids), **(more or {}).get((video.id, e.id), {})} for e in answered},
        }  # fmt: skip
    numbers = {key: number for number, key in enumerate(sorted(tracks))}
    for name, entry in entries.items():
        for expression in entry["expressions"].values():
            expression["anno_id"] = [numbers[name, place] for place in expression["obj_id"]]
    count = sum(len(entry["expressions"]) for entry in entries.values())
    counts = {"videos": len(entries), "expressions": count, "masklets": len(tracks)}
    described |= about or {}  # only now: a lazy list of videos may have added to it
    described["counts"] |= {split: counts}
    for path, content in (
        (folder / "mask_dict.json", {str(numbers[key]): track.runs for key, track in tracks.items()}),
        (folder / "frame_state.json", {str(numbers[key]): track.letters for key, track in tracks.items()}),
        (folder / "meta_expressions.json", {"videos": entries}),
    ):
        tree.write_text(path, json.dumps(content, indent=1, sort_keys=True))
    for file, rows in (lines or {}).items():
        tree.write_text(folder / tree.plain_name(file, folder), "".join(_line(row) for row in rows()))
    tree.write_text(description, json.dumps(described, indent=1, sort_keys=True))
    return tree.Written(folder, len(entries), count, tuple(left_out))


@dataclass
class _Track:
    """An object through a video: its mask, or None, and its letter in each frame."""

    runs: list[rle.RLE | None] = field(default_factory=list)
    letters: str = ""


def _tracks(video: ReferringVideo, ids: Sequence[int]) -> list[_Track]:
    if len(ids) > 255:
        raise InputError(f"video {video.id} has {len(ids)} objects; the format numbers 1 to 255 of them")
    tracks = [_Track() for _ in ids]
    for index in range(len(video.frames) if ids and video.masks is not None else 0):
        assert video.masks is not None
        for track, mask, state in zip(tracks, *video.masks.read(index, ids), strict=True):
            track.runs.append(rle.encode(mask) if mask.any() else None)
            track.letters += "I" if state == IGNORE else "P" if mask.any() else "A"
    return tracks


def _line(row: Mapping[str, Any]) -> str:
    plain = {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
    return json.dumps(plain, sort_keys=True, allow_nan=False) + "\n"


def _expression(expression: Expression, ids: Sequence[int]) -> dict[str, Any]:
    """A sentence's entry; its objects are numbered from 1 in the order of `ids`."""
    objects = [ids.index(i) + 1 for i in expression.object_ids or ()]
    status, weight = "ok" if objects else "no_target", round(expression.weight, 6)
    entry = {"exp": expression.text, "obj_id": objects, "weight": weight, "status": status}
    return entry | ({"type": expression.type} if expression.type else {})
