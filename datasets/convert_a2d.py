"""What other programs, and faster reading, want of A2D-Sentences and JHMDB-Sentences beside their releases.

OUT may be the release's own folder; the readers take either. The ground truth is COCO JSON with one image for each
sentence of each labelled frame, under the names of `image_id`, as in MTTR's files; only the order is another. Boxes are
the masks' own, x y width height, and take part in no score.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
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
Truth = list[dict[str, Any]]  # annotations of COCO without their ids


def convert_a2d(source: Path, out: Path, say: Say = print) -> None:
    """Clips as JPEG frames (quality 95, decoded ones changed a little), MTTR's rows, and the test split's ground truth.

    A clip whose folder of frames is there is not decoded again, so an interrupted run goes on where it was. Into
    another folder than the release's the masks are copied, which makes that a whole tree. Raises InputError at the
    first clip or file of masks that is damaged or missing.
    """
    found = False
    for split in a2d.SUBSETS:
        there = (source / a2d.VIDEOSET).is_file() or a2d.single_frame_path(source, split).is_file()
        videos = a2d.read_a2d(source, split) if there else ()
        if not videos:
            say(f"{split}: {source} lists none of its videos")
            continue
        found = True
        rows: list[list[Any]] = []
        truth: Truth = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = pool.map(partial(_assemble, videos, source, out, split), range(len(videos)))
            for own_rows, own_truth in tqdm(parts, desc=split, total=len(videos), unit="video", disable=None):
                rows += own_rows
                truth += own_truth
        say(f"{split}: read {len(videos)} videos with {len(rows)} pairs of sentence and labelled frame from {source}")
        _write_new(a2d.single_frame_path(out, split), rows)
        if truth:
            _write_new(out / A2D_TRUTH, coco_truth(truth))
    if not found:
        raise InputError(f"{source} lists no video; A2D-Sentences has {a2d.VIDEOSET} and {a2d.SENTENCES} there")
    say(f"wrote {out}")


def _assemble(
    videos: Sequence[ReferringVideo], source: Path, out: Path, split: str, number: int
) -> tuple[list[list[Any]], Truth]:
    """Frames and masks of one video; its rows, and its ground truth where that is the test split's."""
    video = videos[number]
    _write_frames(video, out / a2d.FRAMES / video.id)
    rows: list[list[Any]] = []
    truth: Truth = []
    ids = {i for expression in video.expressions for i in expression.object_ids or ()}
    for index in video.labelled or ():
        path = mask_path(source / a2d.MASKS / video.id, index)
        masks = read_instances(path, ids, video.frames.size)
        _copy(path, mask_path(out / a2d.MASKS / video.id, index))
        for expression in video.expressions:
            (instance,) = expression.object_ids or (None,)
            if instance in masks:
                rows.append([expression.text.lower(), video.id, index + 1, instance])
                truth.append(annotation(a2d.image_id(video, expression, index), masks[instance]))
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
    truth: Truth = []
    for video in tqdm(videos, unit="video", disable=None):
        assert isinstance(video.masks, jhmdb.PuppetMasks)
        for index in video.labelled or ():
            mask = video.masks.stored(index)
            truth += [annotation(jhmdb.image_id(video, expression, index), mask) for expression in video.expressions]
    _write_new(out / JHMDB_TRUTH, coco_truth(truth))
    say(f"read {len(videos)} videos with {len(truth)} scored frames from {source}, wrote {out / JHMDB_TRUTH}")


def annotation(image: str, mask: np.ndarray) -> dict[str, Any]:
    """COCO's annotation of a mask [H, W], without its id."""
    left, top, right, bottom = mask_box(mask)
    return {
        "image_id": image, "category_id": 1, "iscrowd": 0, "segmentation": rle.encode(mask),
        "area": float(mask.sum()), "bbox": [left, top, right - left, bottom - top],
    }  # fmt: skip


def coco_truth(annotations: Truth) -> dict[str, Any]:
    """COCO's ground truth: an image for each annotation; ids of annotations count from 1, as pycocotools expects."""
    sizes = {entry["image_id"]: entry["segmentation"]["size"] for entry in annotations}
    return {
        "categories": [{"id": 1, "name": "object"}],  # sentences have none, but the evaluation wants one
        "images": [{"id": image, "height": height, "width": width} for image, (height, width) in sizes.items()],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, 1)],
    }
