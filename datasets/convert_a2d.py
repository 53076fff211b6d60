"""What other programs, and faster reading, want of A2D-Sentences and JHMDB-Sentences beside their releases.

OUT may be the release's own folder; the readers take either. The ground truth is COCO JSON with one image for each
sentence of each labelled frame, under the names of `image_id`, as in MTTR's files; only the order is another. Boxes are
the masks' own, x y width height, and take part in no score.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datasets import a2d, jhmdb, tree
from datasets.a2d_masks import mask_box, mask_path, read_instances
from util import rle
from util.errors import InputError
from util.types import ReferringVideo

A2D_TRUTH = "a2d_sentences_test_annotations_in_coco_format.json"
JHMDB_TRUTH = "jhmdb_sentences_gt_annotations_in_coco_format.json"

Say = Callable[[str], None]
Masks = list[tuple[str, np.ndarray]]  # image id and mask bool [H, W], as stored


def convert_a2d(source: Path, out: Path, say: Say = print) -> None:
    """Clips as JPEG frames (quality 95, decoded ones changed a little), MTTR's rows, and the test split's ground truth.

    A clip whose folder of frames is there is not decoded again, so an interrupted run goes on where it was. Into
    another folder than the release's the masks are copied, which makes that a whole tree. Raises InputError at the
    first clip or file of masks that is damaged or missing.
    """
    found = False
    for split in a2d.SUBSETS:
        if not (source / a2d.VIDEOSET).is_file() and not a2d.single_frame_path(source, split).is_file():
            say(f"{split}: {source} has no list of it")
            continue
        videos = a2d.read_a2d(source, split)
        found |= len(videos) > 0
        rows: list[list[Any]] = []
        truth: Masks = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = pool.map(partial(_assemble, videos, source, out, split), range(len(videos)))
            for own_rows, own_truth in tqdm(parts, desc=split, total=len(videos), unit="video", disable=None):
                rows += own_rows
                truth += own_truth
        say(f"{split}: read {len(videos)} videos with {len(rows)} pairs of sentence and labelled frame from {source}")
        if rows:
            _write_new(a2d.single_frame_path(out, split), rows)
        if truth:
            _write_new(out / A2D_TRUTH, coco_truth(truth))
    if not found:
        raise InputError(f"{source} lists no video; A2D-Sentences has {a2d.VIDEOSET} and {a2d.SENTENCES} there")
    say(f"wrote {out}")


def _assemble(
    videos: tree.LazyVideos, source: Path, out: Path, split: str, number: int
) -> tuple[list[list[Any]], Masks]:
    """Frames and masks of one video; its rows, and its ground truth where that is the test split's."""
    video = videos[number]
    _write_frames(video, out / a2d.FRAMES / video.id)
    rows: list[list[Any]] = []
    truth: Masks = []
    ids = {i for expression in video.expressions for i in expression.object_ids or ()}
    for index in video.labelled or ():
        path = mask_path(source / a2d.MASKS / video.id, index)
        masks = read_instances(path, ids, video.frames.size)
        _copy(path, mask_path(out / a2d.MASKS / video.id, index))
        for expression in video.expressions:
            (instance,) = expression.object_ids or (None,)
            if instance in masks:
                rows.append([expression.text.lower(), video.id, index + 1, instance])
                truth.append((a2d.image_id(video, expression, index), masks[instance]))
    return rows, truth if split == "test" else []


def _write_frames(video: ReferringVideo, folder: Path) -> None:
    if folder.is_dir():
        return
    part = folder.with_name(folder.name + ".partial")
    shutil.rmtree(part, ignore_errors=True)
    tree.write_frames(part, video, tree.JPEG_QUALITY)
    tree.write_json(part / "video.json", {"frames": len(video.frames), "fps": video.frames.fps})
    part.rename(folder)


def _copy(path: Path, copied: Path) -> None:
    if copied.is_file() and copied.stat().st_size == path.stat().st_size:
        return
    copied.parent.mkdir(parents=True, exist_ok=True)
    part = copied.with_name(copied.name + ".partial")
    shutil.copyfile(path, part)
    part.replace(copied)


def _write_new(path: Path, content: Any) -> None:
    if not path.exists():  # else it is the release's own, or an earlier run's
        tree.write_json(path, content)


def convert_jhmdb(source: Path, out: Path, say: Say = print) -> None:
    """The ground truth of the published samples. Raises InputError as the reader does."""
    videos = jhmdb.read_jhmdb(source)
    truth: Masks = []
    for video in tqdm(videos, unit="video", disable=None):
        assert isinstance(video.masks, jhmdb.PuppetMasks)
        for index in video.labelled or ():
            mask = video.masks.stored(index)
            truth += [(jhmdb.image_id(video, expression, index), mask) for expression in video.expressions]
    _write_new(out / JHMDB_TRUTH, coco_truth(truth))
    say(f"read {len(videos)} videos with {len(truth)} scored frames from {source}, wrote {out / JHMDB_TRUTH}")


def coco_truth(masks: Iterable[tuple[str, np.ndarray]]) -> dict[str, list[dict[str, Any]]]:
    """COCO's images and annotations of (image id, mask [H, W]) pairs; ids of annotations count from 1."""
    images, annotations = [], []
    for number, (image, mask) in enumerate(masks, 1):
        left, top, right, bottom = mask_box(mask)
        images.append({"id": image, "height": mask.shape[0], "width": mask.shape[1]})
        annotations.append(
            {
                "id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "segmentation": rle.encode(mask),
                "area": float(mask.sum()), "bbox": [left, top, right - left, bottom - top],
            }
        )  # fmt: skip
    categories = [{"id": 1, "name": "object"}]  # sentences have no categories, but COCO's evaluation wants one
    return {"categories": categories, "images": images, "annotations": annotations}
