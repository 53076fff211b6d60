"""The parts of A2D-Sentences, JHMDB-Sentences and RefCOCO side by side: lists, ground truth, unlisted files."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import a2d, jhmdb, refcoco, tree
from datasets.check.findings import Finding, note, some
from datasets.check.listing import readable, unlisted
from datasets.convert_a2d import A2D_TRUTH, JHMDB_TRUTH
from util.errors import InputError
from util.types import PRESENT, Expression, ReferringVideo

FRAME_COUNT = 6  # column of videoset.csv

ImageId = Callable[[ReferringVideo, Expression, int], str]


def compare_a2d(root: Path, split: str, videos: Sequence[ReferringVideo]) -> Iterator[Finding]:
    """videoset.csv against clips and masks, and for the test split the ground truth against what is read."""
    path = root / a2d.VIDEOSET
    rows = _rows(path) if path.is_file() else []
    listed = {row[0] for row in rows}
    if rows and split == "test":  # the folders hold both splits
        yield from unlisted(root / a2d.CLIPS, (f"{video}.mp4" for video in listed), "clips")
        yield from unlisted(root / a2d.MASKS, listed, "videos")
    counts = {row[0]: row[FRAME_COUNT] for row in rows if len(row) == a2d.COLUMNS}
    other = [v.id for v in readable(videos) if counts.get(v.id, "").isdecimal() and int(counts[v.id]) != len(v.frames)]
    if other:
        text = f"{path} gives clips another number of frames than they have ({len(other)}): {some(other)}"
        yield note("inconsistent", text)
    if split == "test":
        yield from _compare_truth(root / A2D_TRUTH, videos, a2d.image_id)


def compare_jhmdb(root: Path, split: str, videos: Sequence[ReferringVideo]) -> Iterator[Finding]:
    """The samples against the folders of frames, and the ground truth against what is read."""
    for video in readable(videos):
        folder = video.frames.paths[0].parent if isinstance(video.frames, tree.FolderVideo) else root
        yield from unlisted(folder, (f"{name}.png" for name in video.frame_names), "frames")
    yield from _compare_truth(root / JHMDB_TRUTH, videos, jhmdb.image_id)


def compare_refcoco(root: Path, split: str, videos: Sequence[ReferringVideo]) -> Iterator[Finding]:
    """Sizes and ids of the JSON against the images, of which there are more than a split lists."""
    path = refcoco.annotation_path(root, split)
    content = tree.read_json(path, "the sentences and masks of this split")
    sizes: dict[str, Any] = {}
    numbers: list[str] = []
    for entry in content["images"]:
        numbers.append(str(entry.get("id")))
        sizes[Path(entry["file_name"]).stem] = (entry.get("height"), entry.get("width"))
    targets = [str(entry.get("image_id")) for entry in content["annotations"]]
    for found, what in ((numbers, "images"), (targets, "annotations")):
        twice = {number for number in found if found.count(number) > 1} if len(set(found)) != len(found) else set()
        if twice:
            yield note("inconsistent", f"{path}: {what} share the image id {some(twice)}; the last one counts")
    if set(targets) - set(numbers):
        yield note(
            "unlisted", f"{path}: annotations of images that are not listed: {some(set(targets) - set(numbers))}"
        )
    for video in readable(videos):
        try:
            size = tuple(video.frames.size)
        except InputError:
            continue
        if sizes.get(video.id, size) != size:
            height, width = sizes[video.id]
            text = f"{path} gives {video.id} {width}x{height} pixels, but the image has {size[1]}x{size[0]}"
            yield note("mis-sized", text)


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [row for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error):
        return []  # the reader has said so


def _compare_truth(path: Path, videos: Sequence[ReferringVideo], image_id: ImageId) -> Iterator[Finding]:
    """The COCO ground truth that other programs score against, where it is there: the same images as are read?"""
    if not path.is_file():
        return
    content = tree.read_json(path, "the ground truth in COCO's form")
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        yield note("inconsistent", f'{path} has no list of "images"; make it again')
        return
    given = {str(image.get("id")) for image in images}
    ours = set()
    for video in readable(videos):
        for expression in video.expressions:
            for index in video.labelled or ():
                if _shows(video, expression, index):
                    ours.add(image_id(video, expression, index))
    for more, text in ((given - ours, "has images that are not read"), (ours - given, "lacks images that are read")):
        if more:
            yield note("inconsistent", f"{path} {text} ({len(more)}): {some(more)}")


def _shows(video: ReferringVideo, expression: Expression, index: int) -> bool:
    try:
        return video.masks is not None and PRESENT in video.masks.read(index, expression.object_ids or ())[1]
    except InputError:
        return False  # it is a finding already
