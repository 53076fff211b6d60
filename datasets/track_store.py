"""Tracks on disk, format `rvos-tracks/1`: made once by the teacher, read by it, by track selection and by students.

    ROOT/store.json                              {"schema": "rvos-tracks/1", "sources": [[dataset, split], ...]}
    ROOT/DATASET/SPLIT/VIDEO/tracks.json         models, thresholds, and every track's prompts
                            /masks.json.gz       {track_id: [COCO RLE or null for each frame]}
                            /tokens.safetensors  obj_ptr, object_score, stability, pred_iou, box, area, tracked, ...
                            /candidates.json     {"sets": {set: {sentence id: [track index]}}}
                            /DONE                {"files": {name: sha256}, "fingerprint": sha256}
    ROOT/DATASET/SPLIT/.sidecar/...              labels, scores and more candidates, outside the videos' folders

A folder is written beside its place, DONE last, and renamed; one without a DONE that fits its files counts as not
there. Equal tracks give equal bytes. The fingerprint covers tracks, masks and tokens: what refers to a video's tracks
notes it. Beside the tensors that are common to all makers there is `disputed`: where merged tracks disagree.
"""

from __future__ import annotations

import gzip
import json
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from datasets import tree
from datasets.tracks import Track, TrackPrompt, Tracks, Vote
from util import atomic, rle
from util.errors import InputError

__all__ = ["Track", "TrackPrompt", "TrackStore", "Tracks", "Vote"]

SCHEMA = "rvos-tracks/1"
FILES = ("tracks.json", "masks.json.gz", "tokens.safetensors")  # the fingerprint is over these
POINTER_LIMIT = 6e4  # pointers are stored in half precision, which ends at 65504
_TENSORS = {  # name in the file: field, type on disk
    "object_score": ("object_score_NT", np.float32), "stability": ("stability_NT", np.float32),
    "pred_iou": ("predicted_iou_NT", np.float32), "box": ("boxes_NT4", np.float32), "area": ("area_NT", np.float32),
    "tracked": ("tracked_NT", np.uint8), "disputed": ("disputed_NT", np.uint8),
}  # fmt: skip


@dataclass(frozen=True)
class TrackStore:
    """The tracks of many videos under one folder."""

    root: Path

    def folder(self, dataset: str, split: str, video_id: str) -> Path:
        """Where a video's tracks lie. Raises InputError for a name that cannot be a folder's."""
        names = [tree.plain_name(name, self.root) for name in (dataset, split, video_id)]
        return self.root.joinpath(*names)

    def videos(self) -> Iterator[tuple[str, str, str]]:
        """(dataset, split, video id) of every finished video, in their order."""
        for done in sorted(self.root.glob("*/*/*/DONE")):
            if not done.parent.name.startswith("."):
                yield done.parts[-4], done.parts[-3], done.parts[-2]

    def fingerprint(self, dataset: str, split: str, video_id: str) -> str | None:
        """Fingerprint of a finished video; None where there is none, or where its files are not those of its DONE."""
        folder = self.folder(dataset, split, video_id)
        _settle(folder)
        try:
            done = json.loads((folder / "DONE").read_text(encoding="utf-8"))
            files = {name: atomic.sha256((folder / name).read_bytes()) for name in done["files"]}
            whole = files == done["files"] and set(files) >= {*FILES, "candidates.json"}
            return str(done["fingerprint"]) if whole and done["fingerprint"] == _fingerprint(files) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, tracks: Tracks) -> Tracks:
        """Write a video whole, in the place of an older folder; gives the tracks with their fingerprint.

        Raises InputError for tracks that contradict themselves, and for pointers too large for half precision.
        """
        folder = self.folder(tracks.dataset, tracks.split, tracks.video_id)
        tracks.check(str(folder))
        self._note_source(tracks.dataset, tracks.split)
        unfinished = _beside(folder)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        contents = _contents(tracks)
        for name, content in contents.items():
            atomic.write_bytes(unfinished / name, content)
        files = {name: atomic.sha256(content) for name, content in contents.items()}
        fingerprint = _fingerprint(files)
        done = atomic.canonical({"files": files, "fingerprint": fingerprint})
        atomic.write_bytes(unfinished / "DONE", done.encode())
        atomic.swap_folder(unfinished, folder)
        return replace(tracks, fingerprint=fingerprint)

    def read(self, dataset: str, split: str, video_id: str) -> Tracks:
        """The tracks of a video. Raises InputError where they are missing, unfinished, damaged or of another schema."""
        folder = self.folder(dataset, split, video_id)
        fingerprint = self.fingerprint(dataset, split, video_id)
        if fingerprint is None:
            raise InputError(f"{folder} holds no finished tracks; run the teacher for this video again")
        try:
            description = json.loads((folder / "tracks.json").read_text(encoding="utf-8"))
            masks = json.loads(gzip.decompress((folder / "masks.json.gz").read_bytes()))
            tokens = safetensors.numpy.load_file(folder / "tokens.safetensors")
            sets = json.loads((folder / "candidates.json").read_text(encoding="utf-8"))["sets"]
            if str(description["schema"]).split(".")[0] != SCHEMA:
                raise InputError(f"{folder} has the schema {description['schema']!r}, and {SCHEMA} is read here")
            tracks = _tracks(description, masks, tokens, sets, fingerprint, str(folder))
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            EOFError,
            zlib.error,
            SafetensorError,
        ) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot read the tracks of {folder}: {error}; delete it and make them again") from error
        return tracks.check(str(folder))

    def append(self, new: Tracks) -> Tracks:
        """Add tracks to a video's, or begin it; rows and ids of the older tracks stay, ids they have are not added.

        Raises InputError where the older tracks are of other frames.
        """
        if self.fingerprint(new.dataset, new.split, new.video_id) is None:
            return self.write(new)
        return self.write(joined(self.read(new.dataset, new.split, new.video_id), new))

    def _note_source(self, dataset: str, split: str) -> None:
        path = self.root / "store.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {"schema": SCHEMA, "sources": []}
        if known.get("schema") != SCHEMA:
            raise InputError(f"{path} has the schema {known.get('schema')!r}; write {SCHEMA} into another folder")
        if [dataset, split] not in known["sources"]:
            known["sources"] = sorted([*known["sources"], [dataset, split]])
            atomic.write_bytes(path, atomic.canonical(known).encode())


def joined(old: Tracks, new: Tracks) -> Tracks:
    """The tracks of `old`, then those of `new` whose ids `old` lacks. Raises InputError for other frames."""
    if (old.frame_names, old.size) != (new.frame_names, new.size):
        raise InputError(f"video {old.video_id} has other frames than the tracks in the store; give another store")
    known = {track.track_id for track in old.tracks}
    rows = [row for row, track in enumerate(new.tracks) if track.track_id not in known]
    clusters = 1 + max((track.cluster for track in old.tracks), default=-1)
    added = tuple(replace(new.tracks[row], cluster=clusters + new.tracks[row].cluster) for row in rows)
    arrays: dict[str, Any] = {
        field: np.concatenate([getattr(old, field), getattr(new, field)[rows]]) for field, _ in _TENSORS.values()
    }
    pointers = None
    if old.pointers_NTD is not None and new.pointers_NTD is not None:
        pointers = np.concatenate([old.pointers_NTD, new.pointers_NTD[rows]])
    return replace(
        old,
        tracks=old.tracks + added,
        masks=old.masks + tuple(new.masks[row] for row in rows),
        pointers_NTD=pointers,
        key_frames=tuple(sorted({*old.key_frames, *new.key_frames})),
        fingerprint="",
        **arrays,
    )


def _contents(tracks: Tracks) -> dict[str, bytes]:
    """The bytes of each file but DONE."""
    absmax = 0.0
    tensors = {name: np.ascontiguousarray(getattr(tracks, field), dtype) for name, (field, dtype) in _TENSORS.items()}
    if tracks.pointers_NTD is not None:
        absmax = float(np.abs(tracks.pointers_NTD).max(initial=0.0))
        if not absmax <= POINTER_LIMIT:
            raise InputError(f"object pointers of {tracks.video_id} reach {absmax:g}, too large for half precision")
        tensors["obj_ptr"] = tracks.pointers_NTD.astype(np.float16)
    description = {
        "schema": SCHEMA, "dataset": tracks.dataset, "split": tracks.split, "video_id": tracks.video_id,
        "frames": tracks.frame_names, "size": tracks.size, "fps": tracks.fps, "generator": tracks.generator,
        "key_frames": tracks.key_frames, "obj_ptr_absmax": absmax,
        "tracks": [_describe(tracks, row) for row in range(len(tracks))],
    }  # fmt: skip
    masks = {track.track_id: row for track, row in zip(tracks.tracks, tracks.masks, strict=True)}
    return {
        "tracks.json": atomic.canonical(description).encode(),
        "masks.json.gz": gzip.compress(atomic.canonical(masks).encode(), mtime=0),
        "tokens.safetensors": safetensors.numpy.save(dict(sorted(tensors.items()))),
        "candidates.json": atomic.canonical({"sets": tracks.candidates}).encode(),
    }


def _describe(tracks: Tracks, row: int) -> dict[str, Any]:
    track, visible = tracks.tracks[row], np.flatnonzero(tracks.visible_NT()[row])
    first, last = (int(visible[0]), int(visible[-1])) if visible.size else (None, None)
    return {"index": row, "first": first, "last": last, "num_visible": int(visible.size), **asdict(track)}


def _tracks(
    description: Mapping[str, Any],
    masks: Mapping[str, Any],
    tokens: Mapping[str, np.ndarray],
    sets: Mapping[str, Any],
    fingerprint: str,
    where: str,
) -> Tracks:
    listed = [_track(entry) for entry in description["tracks"]]
    size = (int(description["size"][0]), int(description["size"][1]))
    for track in listed:
        for runs in masks[track.track_id]:
            if runs is not None and (tuple(runs["size"]) != size or not rle.area(runs)):
                raise InputError(f"{where}: a mask of track {track.track_id} is empty or of another size")
    arrays: dict[str, Any] = {field: tokens[name] for name, (field, _) in _TENSORS.items() if name in tokens}
    arrays.setdefault("disputed_NT", np.zeros_like(tokens["tracked"]))  # a store made elsewhere has none
    for name in ("tracked_NT", "disputed_NT"):
        arrays[name] = arrays[name].astype(bool)
    return Tracks(
        description["dataset"],
        description["split"],
        description["video_id"],
        tuple(description["frames"]),
        size,
        description["fps"],
        description["generator"],
        tuple(listed),
        tuple(tuple(masks[track.track_id]) for track in listed),
        pointers_NTD=tokens["obj_ptr"].astype(np.float32) if "obj_ptr" in tokens else None,
        key_frames=tuple(description.get("key_frames", ())),
        candidates=sets,
        fingerprint=fingerprint,
        **arrays,
    )


def _track(entry: Mapping[str, Any]) -> Track:
    prompts = tuple(TrackPrompt(**_tuples(prompt, ("box", "points", "expression_ids"))) for prompt in entry["prompts"])
    votes = tuple(Vote(**vote) for vote in entry.get("votes", ()))
    return Track(entry["track_id"], entry["source"], prompts, entry["cluster"], tuple(entry["merged_from"]), votes)


def _tuples(entry: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """JSON's lists as the tuples that dataclasses compare by."""
    values = dict(entry)
    for name in names:
        if values.get(name) is not None:
            values[name] = tuple(tuple(item) if isinstance(item, list) else item for item in values[name])
    return values


def _fingerprint(files: Mapping[str, str]) -> str:
    return atomic.sha256(atomic.canonical([files[name] for name in FILES]))


def _beside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}{atomic.PARTIAL}")


def _settle(folder: Path) -> None:
    """Finish a swap that a kill interrupted: the old folder had made room, and the new one, whole, was not in place."""
    if not folder.exists() and (_beside(folder) / "DONE").exists():
        _beside(folder).rename(folder)
