"""Ref-DAVIS17 on disk: reading the official releases where they were unpacked, and writing such a tree.

    ROOT/davis_text_annotations/Davis17_annot{1,2}{,_full_video}.txt   lines: VIDEO OBJECT "SENTENCE"
    ROOT/DAVIS/ImageSets/2017/{train,val}.txt                          the videos of a split
    ROOT/DAVIS/JPEGImages/480p/VIDEO/FRAME.jpg
    ROOT/DAVIS/Annotations_unsupervised/480p/VIDEO/FRAME.png           pixel = object id, 255 = void

Two annotators described every object twice: after its first frame and after the whole video. The id of a sentence is
4 x place of its object + place of its file, as ReferFormer numbers them, so `int(id) % 4` is its annotation set;
objects are in the order of their ids as strings. A tree that was assembled from this in Ref-YouTube-VOS layout
(`datasets/convert.py`) is read as well.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

from datasets import tree
from datasets.ref_youtube_vos import LabelMasks, read_ref_youtube_vos, write_labels
from util.errors import InputError
from util.types import Expression, ReferringVideo

FPS = 24.0
VOID = 255  # id of the pixels that the official evaluator leaves out
ANNOTATION_SETS = (  # in the order of the sentences' ids, with their encodings
    ("Davis17_annot1.txt", "utf-8"),
    ("Davis17_annot1_full_video.txt", "utf-8"),
    ("Davis17_annot2.txt", "latin-1"),
    ("Davis17_annot2_full_video.txt", "latin-1"),
)
_MISSPELLED = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
_LISTS = {"train": "train", "val": "val", "valid": "val"}  # what Ref-YouTube-VOS calls valid is val here

_Lines = dict[str, list[str]]  # what stands behind each video's name: OBJECT "SENTENCE"


def read_ref_davis17(root: str | Path, split: str = "val") -> tree.LazyVideos:
    """The videos of `train` or `val` (also called valid), in the order of their ids.

    Raises InputError when a file of the whole split is missing or malformed, and at an index for a fault of that video.
    """
    root = Path(root)
    if split not in _LISTS:
        raise InputError(f"Ref-DAVIS17 has no split {split!r}; give train or val")
    if not (root / "DAVIS").is_dir() and (root / "meta_expressions").is_dir():
        return read_ref_youtube_vos(root, "train" if split == "train" else "valid")
    listed = root / "DAVIS/ImageSets/2017" / f"{_LISTS[split]}.txt"
    videos = [tree.plain_name(video, listed) for video in _text(listed, "utf-8").split()]
    sets = [_lines(root / "davis_text_annotations" / name, encoding) for name, encoding in ANNOTATION_SETS]
    for folder, what in (("JPEGImages", "the frames"), ("Annotations_unsupervised", "the object masks")):
        tree.require_folder(root / "DAVIS" / folder / "480p", what)
    return tree.LazyVideos(sorted(set(videos)), partial(_video, root, sets))


def _text(path: Path, encoding: str) -> str:
    try:
        return path.read_text(encoding=encoding)
    except FileNotFoundError:
        raise InputError(f"missing {path}; unpack DAVIS-2017-Unsupervised-trainval-480p.zip and the text annotations "
                         "of Ref-DAVIS17 beside each other") from None  # fmt: skip
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}; download it again") from error


def _lines(path: Path, encoding: str) -> _Lines:
    lines: _Lines = defaultdict(list)
    for line in _text(path, encoding).split("\n"):
        video, *rest = line.split(maxsplit=1) or [""]
        if video:
            lines[_MISSPELLED.get(video, video)].append(" ".join(rest).strip())
    return dict(lines)


def _video(root: Path, sets: Sequence[_Lines], video: str) -> ReferringVideo:
    texts = root / "davis_text_annotations"
    sentences: dict[tuple[str, int], str] = {}
    for annotation_set, (lines, (name, _)) in enumerate(zip(sets, ANNOTATION_SETS, strict=True)):
        for line in lines.get(video, ()):
            found = re.fullmatch(r'(\d{1,9})\s+"(.*)', line, re.ASCII)
            text = found[2].removesuffix('"').strip() if found else ""
            where = f"{texts / name}: the line {video} {line}"
            if found is None or not text:
                raise InputError(f'{where} is not VIDEO OBJECT "SENTENCE"; download the file again')
            if (found[1], annotation_set) in sentences:
                raise InputError(f"{where} is the second sentence of this object; leave one of them out")
            sentences[found[1], annotation_set] = text
    if not sentences:
        raise InputError(f"{texts}: the files have no sentence about video {video}; download them again")
    objects = sorted({name for name, _ in sentences})
    expressions = tuple(
        Expression(str(4 * place + annotation_set), sentences[name, annotation_set], (int(name),))
        for (place, name), annotation_set in product(enumerate(objects), range(4))
        if (name, annotation_set) in sentences
    )
    folder = tree.require_folder(root / "DAVIS/JPEGImages/480p" / video, "the frames of this video")
    names = tuple(sorted(path.stem for path in folder.glob("*.jpg")))
    if not names:
        raise InputError(f"{folder} holds no frames; unpack DAVIS-2017-Unsupervised-trainval-480p.zip again")
    frames = tree.frames_of(folder, names, FPS)
    labels = tree.require_folder(root / "DAVIS/Annotations_unsupervised/480p" / video, "the object masks of this video")
    return ReferringVideo(video, frames, names, expressions, LabelMasks(labels, names, frames))


def write_ref_davis17(
    videos: Iterable[ReferringVideo], root: str | Path, split: str, *, quality: int = tree.JPEG_QUALITY
) -> tree.Written:
    """Write videos as a new split (`train` or `val`) of the tree at `root`; `quality` is the JPEGs'.

    An object's first four sentences go into the four text files; what they cannot hold is left out. The list of the
    split comes last, so an interrupted tree is not taken for a whole one. Raises InputError for a split or a video that
    is there already, objects that overlap, or an id beyond 255.
    """
    root = Path(root)
    if split not in _LISTS:
        raise InputError(f"Ref-DAVIS17 has no split {split!r}; give train or val")
    davis, listed = root / "DAVIS", root / "DAVIS/ImageSets/2017" / f"{_LISTS[split]}.txt"
    if listed.exists():
        raise InputError(f"{listed} exists; give a new folder, so that no data set is mixed with another")
    lines: list[list[str]] = [[] for _ in ANNOTATION_SETS]
    names: list[str] = []
    left_out: list[str] = []
    for video in videos:
        _check_video(video.id, davis)
        kept: dict[int, int] = defaultdict(int)  # sentences of each object so far
        for expression in video.expressions:
            fault = _fault(expression, kept)
            if fault:
                left_out.append(f"{video.id}/{expression.id}: {fault}")
                continue
            (object_id,) = expression.object_ids or ()
            lines[kept[object_id]].append(f'{video.id} {object_id} "{" ".join(expression.text.split())}"')
            kept[object_id] += 1
        if not kept or video.masks is None:
            left_out.append(f"{video.id}: no sentence that the layout can hold, or no masks")
            continue
        tree.write_frames(davis / "JPEGImages/480p" / video.id, video, quality)
        write_labels(davis / "Annotations_unsupervised/480p" / video.id, video, sorted(kept))
        names.append(video.id)
    for (name, encoding), more in zip(ANNOTATION_SETS, lines, strict=True):
        path = root / "davis_text_annotations" / name
        before = _text(path, encoding) if path.exists() else ""
        tree.write_text(path, before + "".join(f"{line}\n" for line in more), encoding)
    tree.write_text(listed, "".join(f"{name}\n" for name in names))
    return tree.Written(davis, len(names), sum(map(len, lines)), tuple(left_out))


def _check_video(video: str, davis: Path) -> None:
    tree.plain_name(video, davis)
    if (davis / "JPEGImages/480p" / video).exists():
        raise InputError(f"video {video} is in {davis} already; give a new folder, or another split's videos")
    if re.search(r"\s", video) or video in _MISSPELLED:
        raise InputError(f"video {video!r} cannot be named in Ref-DAVIS17's text files; rename it")


def _fault(expression: Expression, kept: dict[int, int]) -> str | None:
    """Why the text files cannot hold a sentence."""
    ids = expression.object_ids or ()
    if len(ids) != 1:
        return f"{len(ids)} objects"
    if ids[0] == VOID:
        return f"its object has the id {VOID}, which means void"
    if kept.get(ids[0], 0) >= len(ANNOTATION_SETS):
        return "more than 4 sentences of one object"
    if not expression.text.strip():
        return "no text"
    name, encoding = ANNOTATION_SETS[kept.get(ids[0], 0)]
    try:
        expression.text.encode(encoding)
    except UnicodeEncodeError:
        return f"{name} is {encoding}"
    return None
