"""A2D-Sentences on disk: reading the official tree as `ReferringVideo`, and writing one.

    ROOT/Release/videoset.csv                    no header; column 1 the video, column 9 its subset, 0 train or 1 test
    ROOT/Release/clips320H/VIDEO.mp4
    ROOT/text_annotations/a2d_annotation.txt     video_id,instance_id,query, under that header
    ROOT/text_annotations/a2d_missed_videos.txt  videos that are not used
    ROOT/text_annotations/a2d_annotation_with_instances/VIDEO/FRAME.h5    see datasets/a2d_masks.py

and what is read in their place where it is there:

    ROOT/a2d_sentences_single_frame_SPLIT_annotations.json    [text, video, frame, instance] rows, MTTR's; for the lists
    ROOT/Release/frames320H/VIDEO/{FRAME.jpg, video.json}     for the clip; made by `data convert`, faster to read

A sentence has one object, its instance. Three to five frames of a video are labelled, counted from 1; in all others
the masks are IGNORE, so they are neither trained on nor scored, and the tracking stream gets no truth from them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets import tree
from datasets.a2d_masks import InstanceMasks, labelled_frames, mask_path, write_instances
from datasets.video import FileVideo, FolderVideo
from util.errors import InputError
from util.types import PRESENT, Expression, FrameSource, ReferringVideo
from util.video_writer import VideoWriter

SUBSETS = {"train": "0", "test": "1"}
CLIPS, FRAMES = "Release/clips320H", "Release/frames320H"
MASKS = "text_annotations/a2d_annotation_with_instances"
VIDEOSET, MISSED = "Release/videoset.csv", "text_annotations/a2d_missed_videos.txt"
SENTENCES, HEADER = "text_annotations/a2d_annotation.txt", ["video_id", "instance_id", "query"]
COLUMNS = 9  # of videoset.csv
COPY = "1 (copy)"  # an instance id that the official list gives once, by mistake


@dataclass(frozen=True)
class _Listed:
    """What a list says of each video: (text, instance, frame from 1, or None where the masks' names tell)."""

    path: Path
    rows: dict[str, list[tuple[Any, Any, Any]]]


def read_a2d(root: str | Path, split: str = "train") -> tree.LazyVideos:
    """The videos of split `train` or `test`, in the order of their ids.

    An expression's id is its instance's, so that `image_id` gives the official name. Needs h5py for the masks. Raises
    InputError when the split is missing or malformed as a whole, and at an index for a fault of that video.
    """
    root = Path(root)
    _subset(split)
    rows = single_frame_path(root, split)
    listed = _from_rows(rows) if rows.is_file() else _from_lists(root, split)
    tree.require_folder(root / MASKS, "the masks, a folder for each video,")
    return tree.LazyVideos(sorted(listed.rows), partial(_video, root, listed))


def image_id(video: ReferringVideo, expression: Expression, index: int) -> str:
    """The published ground truth's name of a sentence in frame `index`, counted from 0: `v_{video}_f_{frame}_i_{id}`.

    Where sentences share an instance, which the official lists do not have, each still gets a name of its own.
    """
    return f"v_{video.id}_f_{index + 1}_i_{expression.id}"


def single_frame_path(root: Path, split: str) -> Path:
    """Where MTTR's rows [text, video, frame, instance] of a split lie."""
    return root / f"a2d_sentences_single_frame_{split}_annotations.json"


def _subset(split: str) -> str:
    if split not in SUBSETS:
        raise InputError(f"A2D-Sentences has the splits train and test, not {split!r}; give one of them")
    return SUBSETS[split]


def _from_rows(path: Path) -> _Listed:
    content = tree.read_json(path, "the sentences, [text, video, frame, instance] rows")
    listed = _Listed(path, {})
    if not isinstance(content, list):
        raise InputError(f"{path} is not a list of rows; download it again, or remove it to read {SENTENCES}")
    for number, row in enumerate(content):
        if not isinstance(row, list) or len(row) != 4 or not isinstance(row[1], str):
            raise InputError(f"{path}: row {number} is not [text, video, frame, instance]; download it again")
        text, video, frame, instance = row
        listed.rows.setdefault(video, []).append((text, instance, frame))
    return listed


def _from_lists(root: Path, split: str) -> _Listed:
    missed = {row[0] for row in _read_table(root / MISSED, "the videos that are not used") if row}
    used = {video for video, subset in _videoset(root) if subset == _subset(split)} - missed
    path = root / SENTENCES
    header, *rows = _read_table(path, "the sentences") or [[]]
    if header != HEADER:
        raise InputError(f"{path} does not begin with {','.join(HEADER)}; download it again")
    listed = _Listed(path, {})
    for number, row in enumerate(rows, 2):
        if len(row) != len(HEADER):
            raise InputError(f"{path}: row {number} has {len(row)} columns, not {','.join(HEADER)}; download it again")
        video, instance, text = row
        if video in used and instance != COPY:
            listed.rows.setdefault(video, []).append((text, instance, None))
    return listed


def _videoset(root: Path) -> list[tuple[str, str]]:
    """(video, subset) of each row of videoset.csv."""
    path = root / VIDEOSET
    rows = [row for row in _read_table(path, "the list of videos") if row]
    for number, row in enumerate(rows, 1):
        if len(row) != COLUMNS:
            raise InputError(f"{path}: row {number} has {len(row)} columns instead of {COLUMNS}; download it again")
    return [(row[0], row[-1].strip()) for row in rows]


def _read_table(path: Path, what: str) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))
    except FileNotFoundError:
        raise InputError(f"missing {path}: {what} are expected there; check the data set's root") from None
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}; download it again") from error


def _video(root: Path, listed: _Listed, video: str) -> ReferringVideo:
    where = f"{listed.path}: video {video!r}"
    tree.plain_name(video, listed.path)
    folder = root / MASKS / video
    given = [tree.whole_number(frame, f"{where}, frame") - 1 for _, _, frame in listed.rows[video] if frame is not None]
    labelled = tuple(sorted(set(given))) or labelled_frames(folder)
    frames = _frames(root, video)
    if labelled[0] < 0 or labelled[-1] >= len(frames):
        wrong = labelled[0] if labelled[0] < 0 else labelled[-1]
        raise InputError(
            f"video {video} has {len(frames)} frames, but frame {wrong + 1} is labelled ({mask_path(folder, wrong)}); "
            "the clip is cut short, or the two are of different releases: download it again"
        )
    names = tuple(f"{number:05d}" for number in range(1, len(frames) + 1))
    masks = InstanceMasks(folder, frames.size, labelled)
    return ReferringVideo(video, frames, names, _expressions(listed, video, where), masks, labelled)


def _expressions(listed: _Listed, video: str, where: str) -> tuple[Expression, ...]:
    sentences: dict[tuple[int, str], None] = {}  # a sentence has a row for each of its frames
    for text, instance, _ in listed.rows[video]:
        number = tree.whole_number(instance, f"{where}, instance")
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}, instance {number} has no text; write its sentence, or leave the row out")
        sentences[number, text] = None
    found: list[Expression] = []
    for number, text in sentences:
        same = sum(expression.object_ids == (number,) for expression in found)
        found.append(Expression(f"{number}.{same + 1}" if same else str(number), text, (number,)))
    return tuple(found)


def _frames(root: Path, video: str) -> FrameSource:
    folder = root / FRAMES / video
    if not folder.is_dir():
        return FileVideo(root / CLIPS / f"{video}.mp4")
    about = tree.read_json(folder / "video.json", "how many frames the clip has, and how many a second,")
    try:
        count, fps = int(about["frames"]), float(about["fps"])
    except (TypeError, KeyError, ValueError, OverflowError):
        count, fps = 0, 0.0
    if not (1 <= count < 1e6 and 0 < fps < 1e6):
        raise InputError(f'{folder / "video.json"} does not say "frames" and "fps"; remove {folder} and convert again')
    return FolderVideo((folder / f"{number:05d}.jpg" for number in range(1, count + 1)), fps)


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_a2d(
    videos: Iterable[ReferringVideo], root: str | Path, split: str, *, quality: int = tree.JPEG_QUALITY
) -> tree.Written:
    """Write videos as split `train` or `test` of the tree at `root`, which may hold the other split already.

    Frames become H.264 clips, so they are not exact and `quality` has no part in them; masks are. Three frames of a
    video are labelled, or those that are in the source. Sentences are left out that have several objects or none,
    no answer, or an object that no labelled frame shows. The lists come last, so an interrupted tree is not taken for
    a whole one. Raises InputError for a split or a video that is there already.
    """
    root = Path(root)
    subset = _subset(split)
    videoset = _read_table(root / VIDEOSET, "the list of videos") if (root / VIDEOSET).is_file() else []
    sentences = _read_table(root / SENTENCES, "the sentences") if videoset else [HEADER]
    if any(row and row[-1] == subset for row in videoset):
        raise InputError(f"{root} has a split {split} already; give a new folder, so that no two are mixed")
    count = len(sentences)
    left_out: list[str] = []
    for video in videos:
        tree.plain_name(video.id, root)
        if any(row and row[0] == video.id for row in videoset):
            raise InputError(f"{root} has a video {video.id} already; give a new folder")
        labelled = _labelled(video)
        shown = _write_masks(root / MASKS / video.id, video, labelled)
        kept = [e for e in video.expressions if e.object_ids and len(e.object_ids) == 1 and e.object_ids[0] in shown]
        left_out += [f"{video.id}/{e.id}: {_why(e)}" for e in video.expressions if e not in kept]
        if not kept:
            continue
        with VideoWriter(root / CLIPS / f"{video.id}.mp4", fps=video.frames.fps) as clip:
            for index in range(len(video.frames)):
                clip.write(video.frames[index])
        height, width = video.frames.size
        seconds = f"{len(video.frames) / video.frames.fps:.3f}"
        numbers = [0, 0, seconds, height, width, len(video.frames), len(labelled), subset]
        videoset.append([video.id, *map(str, numbers)])
        sentences += [[video.id, str(e.object_ids[0]), e.text] for e in kept if e.object_ids]
    _write_table(root / SENTENCES, sentences)
    _write_table(root / MISSED, [])
    _write_table(root / VIDEOSET, videoset)
    return tree.Written(root, sum(row[-1] == subset for row in videoset), len(sentences) - count, tuple(left_out))


def _labelled(video: ReferringVideo) -> list[int]:
    """Three frames, spread evenly over the video and not at its ends; those that the source labels, if it says so."""
    spread = np.linspace(0, len(video.frames) - 1, 5).round().astype(int)[1:4]
    return sorted({int(index) for index in (spread if video.labelled is None else video.labelled)})


def _write_masks(folder: Path, video: ReferringVideo, labelled: list[int]) -> set[int]:
    """Write what the labelled frames show of the objects that have a sentence of their own; returns which it is."""
    ids = sorted({e.object_ids[0] for e in video.expressions if e.object_ids and len(e.object_ids) == 1})
    shown: set[int] = set()
    if video.masks is None:
        return shown
    for index in labelled if ids else ():
        masks, states = video.masks.read(index, ids)
        seen = {i: mask for i, mask, state in zip(ids, masks, states, strict=True) if state == PRESENT}
        if seen:
            write_instances(mask_path(folder, index), seen)
        shown |= set(seen)
    return shown


def _why(expression: Expression) -> str:
    if expression.object_ids is None:
        return "no answer"
    count = len(expression.object_ids)
    return f"{count} objects" if count != 1 else "not seen in a labelled frame"


def _write_table(path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    tree.write_text(path, text.getvalue())
