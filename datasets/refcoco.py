"""RefCOCO, RefCOCO+ and RefCOCOg on disk: sentences about images, each image read as a video of one frame.

    ROOT/SET/instances_SET_SPLIT.json   in COCO's form, with one "image" and one annotation for each sentence
    ROOT/train2014/IMAGE.jpg

SET is refcoco, refcoco+ or refcocog. The JSON files are those that ReferFormer's family of programs trains on;
`datasets/convert_refcoco.py` makes them from the official releases. A split is named SET/SPLIT (`refcoco+/testA`);
SPLIT alone is RefCOCO's. The sentences of an image are read together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets import tree
from datasets.video import FolderVideo
from util import rle
from util.errors import InputError
from util.types import Box, Expression, ReferringVideo

SETS = ("refcoco", "refcoco+", "refcocog")
IMAGES = "train2014"
FPS = 1.0  # of an image; there is no second frame

_Entries = list[dict[str, Any]]
_Annotation = tuple[Any, Any, Any]  # object id, mask and box, all unchecked


def annotation_path(root: Path, split: str) -> Path:
    """The JSON of a split named SET/SPLIT or SPLIT. Raises InputError for an unknown set."""
    name, _, part = split.rpartition("/")
    name = name or SETS[0]
    if name not in SETS:
        raise InputError(f"{split!r} is not a split of RefCOCO; give SET/SPLIT, with {', '.join(SETS)} for SET")
    return root / name / f"instances_{name}_{tree.plain_name(part, root)}.json"


def read_refcoco(root: str | Path, split: str = "train") -> tree.LazyVideos:
    """The images of a split as videos of one frame, in the order of their names.

    `object_ids` are COCO's annotation ids. Raises InputError when the JSON is missing or malformed as a whole, and at
    an index for a fault of that image.
    """
    path = annotation_path(Path(root), split)
    expected = "the sentences and masks of this split (`main.py data convert refcoco` makes them from the release)"
    content = tree.read_json(path, expected)
    tree.require_folder(Path(root) / IMAGES, "COCO's images")
    images: dict[str, _Entries] = {}
    annotations: dict[str, _Annotation] = {}
    segments: dict[str, Any] = {}  # the sentences of an object repeat its mask: one copy is kept
    for entry in _entries(content, "annotations", path):
        object_id = entry.get("original_id", entry.get("id"))
        segment = segments.setdefault(str(object_id), entry.get("segmentation"))
        annotations[str(entry.get("image_id"))] = object_id, segment, entry.get("bbox")
    for entry in _entries(content, "images", path):
        if not isinstance(entry.get("file_name"), str):
            raise InputError(f"{path}: an image has no file_name; make the file again from the release")
        images.setdefault(entry["file_name"], []).append(entry)
    return tree.LazyVideos(sorted(images), partial(_image, Path(root) / IMAGES, path, images, annotations))


def _entries(content: Any, key: str, path: Path) -> _Entries:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f'{path} has no list of "{key}"; make it again from the release')
    return entries


def _image(
    folder: Path, path: Path, images: dict[str, _Entries], annotations: dict[str, _Annotation], name: str
) -> ReferringVideo:
    frames = FolderVideo([folder / tree.plain_name(name, path)], FPS)
    expressions, segments, boxes = [], {}, {}
    for entry in images[name]:
        number = tree.whole_number(entry.get("id"), f"{path}: image {name}, id")
        where = f"{path}: image {number} ({name})"
        annotation, text = annotations.get(str(number)), entry.get("caption")
        if not isinstance(text, str) or not text.strip():
            raise InputError(f'{where} has no text ("caption"); write its sentence, or leave it out')
        if not isinstance(entry.get("type"), str | None):
            raise InputError(f"{where} has the type {entry['type']!r}; a type is a word")
        if annotation is None:
            raise InputError(f"{where} has no annotation; make the file again from the release")
        object_id = tree.whole_number(annotation[0], f"{where}, annotation id")
        segments[object_id] = annotation[1]
        if annotation[2] is not None:
            boxes[object_id] = _xyxy(annotation[2], where)
        expressions.append(Expression(str(number), text, (object_id,), entry.get("type")))
    masks = SegmentMasks(segments, frames, str(path))
    return ReferringVideo(Path(name).stem, frames, (Path(name).stem,), tuple(expressions), masks, boxes=boxes)


def _xyxy(box: Any, where: str) -> Box:
    """COCO's (x, y, width, height) as (left, top, right, bottom)."""
    numbers = box if isinstance(box, list) else []
    if len(numbers) != 4 or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise InputError(f"{where} has a box that is not x, y, width, height; make the file again from the release")
    x, y, width, height = map(float, numbers)
    return x, y, x + width, y + height


class SegmentMasks:
    """Masks of an image's objects, given as COCO's polygons or run lengths."""

    def __init__(self, segments: dict[int, Any], frames: FolderVideo, path: str) -> None:
        self._segments, self._frames, self._path = segments, frames, path

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool [N, H, W] and states int8 [N] of the one frame. Raises InputError for a malformed mask."""
        masks = np.zeros((len(object_ids), *self._frames.size), bool)
        for place, object_id in enumerate(object_ids):
            where = f"{self._path}: annotation {object_id} ({self._frames.names[0]})"
            if object_id not in self._segments:
                raise InputError(f"{where} is not there; take the ids from the image's sentences")
            masks[place] = _mask(self._segments[object_id], self._frames.size, where)
        return masks, tree.states_of(masks)


def _mask(segment: Any, size: tuple[int, int], where: str) -> np.ndarray:
    if not isinstance(segment, list):
        return tree.decode_mask(segment, size, where)
    try:
        from pycocotools import mask as coco
    except ImportError:
        raise InputError("COCO's polygons need pycocotools; install it with: pip install pycocotools") from None
    # pycocotools trusts its input: it walks along every edge, however far away its ends are
    limit = 2 * max(size)
    for polygon in segment:
        numbers = polygon if isinstance(polygon, list) else []
        if len(numbers) < 6 or len(numbers) % 2 or not all(_within(number, limit) for number in numbers):
            raise InputError(f"{where}: a polygon needs at least 3 points, x and y, near the image; fix the data")
    if not segment:
        raise InputError(f"{where}: has no polygon; fix the data")
    return coco.decode(coco.merge(coco.frPyObjects(segment, *size))).astype(bool)


def _within(number: object, limit: int) -> bool:
    return isinstance(number, int | float) and math.isfinite(number) and abs(number) <= limit


def write_refcoco(
    videos: Iterable[ReferringVideo], root: str | Path, split: str, *, quality: int = tree.JPEG_QUALITY
) -> tree.Written:
    """Write the first frame of each video as an image of a new split of the tree at `root`; `quality` is the JPEGs'.

    A sentence needs one object that is seen in that frame; others are left out, and images without sentences.
    Sentences and objects are numbered anew. The JSON comes last, so an interrupted tree is not taken for a whole one.
    Raises InputError for a split or an image that is there already.
    """
    root = Path(root)
    path = annotation_path(root, split)
    if path.exists():
        raise InputError(f"{path} exists; give a new folder, so that no data set is mixed with another")
    (root / IMAGES).mkdir(parents=True, exist_ok=True)
    images: _Entries = []
    annotations: _Entries = []
    objects: dict[tuple[str, int], int] = {}
    left_out: list[str] = []
    place = 0
    for video in videos:
        image = root / IMAGES / f"{tree.plain_name(video.id, root)}.jpg"
        if image.exists():
            raise InputError(f"{image} exists; give a new folder, so that no data set is mixed with another")
        found = {expression: _first_mask(video, expression) for expression in video.expressions}
        left_out += [f"{video.id}/{e.id}: {mask}" for e, mask in found.items() if isinstance(mask, str)]
        kept = {e: mask for e, mask in found.items() if not isinstance(mask, str)}
        if kept:
            place += 1
            Image.fromarray(video.frames[0]).save(image, quality=quality, subsampling=0)
        for expression, mask in kept.items():
            number = len(images) + 1
            key = (video.id, (expression.object_ids or (0,))[0])
            images.append(
                {"file_name": image.name, "height": mask.shape[0], "width": mask.shape[1], "original_id": place,
                 "id": number, "caption": expression.text, "dataset_name": path.parent.name}
                | ({"type": expression.type} if expression.type else {})
            )  # fmt: skip
            annotations.append(
                {"segmentation": rle.encode(mask), "area": int(mask.sum()), "iscrowd": 0, "bbox": _box(mask),
                 "image_id": number, "category_id": 1, "id": number,
                 "original_id": objects.setdefault(key, len(objects) + 1)}
            )  # fmt: skip
    content = {"info": "", "licenses": [], "images": images, "annotations": annotations}
    tree.write_text(path, json.dumps(content | {"categories": [{"id": 1, "name": "object"}]}))
    return tree.Written(path.parent, place, len(images), tuple(left_out))


def _first_mask(video: ReferringVideo, expression: Expression) -> np.ndarray | str:
    """The mask bool [H, W] of a sentence's object in the first frame, or why the layout cannot hold it."""
    ids = expression.object_ids or ()
    if len(ids) != 1 or video.masks is None:
        return f"{len(ids)} objects"
    mask = video.masks.read(0, ids)[0][0]
    return mask if mask.any() else "its object is not in the first frame"


def _box(mask: np.ndarray) -> list[int]:
    """x, y, width and height, COCO's order, of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
