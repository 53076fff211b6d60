"""One image: what a detector found in it, cut out by a segmenter, as pictures and as Grounded SAM 2's JSON.

    {"image_path", "img_width", "img_height", "box_format": "xyxy", "model": {...}, "caption" where one was made,
     "annotations": [{"class_name", "bbox": [x0, y0, x1, y1], "segmentation": {"size", "counts"}, "score",
                      "mask_score", "phrase", "noun_scores", "token_scores": [["red", 0.4], ["car", 0.8]],
                      "drawn_segmentation" where the detector drew one}]}

`score` is the detector's, null where it has none; `mask_score` is the segmenter's predicted IoU, null likewise.
`token_scores` are the words that the detector was asked about, each with its probability; null where it scores none.
(Grounded SAM 2 writes the segmenter's as `score`, and as a list when there are several boxes.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datasets.video import MemoryVideo
from models.teacher.detect.boxes import merge_nouns
from models.teacher.detect.florence_answers import Region, region_mask
from models.teacher.interfaces import Detector, ModelInfo, Prompt, VideoSegmenter
from util import rle
from util.drawing import colour_of, overlay, save_image
from util.errors import InputError
from util.types import Box


@dataclass(frozen=True)
class Thing:
    """Something found in an image.

    score        0..1 of the detector, None where it gives none; mask_score  of the segmenter, likewise
    noun_scores  of every noun that found it; token_scores  of every word of its name, as in `Detection`
    drawn_HW     the mask that the detector drew itself (Florence-2's polygons), if any
    """

    name: str
    box: Box
    score: float | None
    mask_HW: np.ndarray
    mask_score: float | None
    phrase: str = ""
    noun_scores: Mapping[str, float] = field(default_factory=dict)
    token_scores: tuple[tuple[str, float], ...] = ()
    drawn_HW: np.ndarray | None = None


def segment_image(
    image_HW3: np.ndarray, detector: Detector, nouns: Sequence[str], segmenter: VideoSegmenter, *, iou: float = 0.8
) -> list[Thing]:
    """What the nouns name, each thing once (boxes that overlap by more than `iou` are one thing); maybe nothing."""
    found = merge_nouns(detector.detect(image_HW3, nouns), iou)
    masks = _masks(image_HW3, [candidate.best.box for candidate in found], segmenter)
    return [
        Thing(
            candidate.best.noun,
            candidate.best.box,
            candidate.best.score,
            mask_HW,
            mask_score,
            candidate.best.phrase,
            candidate.noun_scores,
            candidate.best.token_scores,
        )
        for candidate, (mask_HW, mask_score) in zip(found, masks, strict=True)
    ]


def segment_regions(image_HW3: np.ndarray, regions: Sequence[Region], segmenter: VideoSegmenter) -> list[Thing]:
    """Regions that Florence-2 named, cut out by their boxes; those without a name are numbered."""
    height, width = image_HW3.shape[:2]
    masks = _masks(image_HW3, [region.box for region in regions], segmenter)
    return [
        Thing(
            region.label or f"region_{place}",
            region.box,
            None,
            mask_HW,
            mask_score,
            region.label,
            drawn_HW=region_mask(region, height, width) if region.polygons else None,
        )
        for place, (region, (mask_HW, mask_score)) in enumerate(zip(regions, masks, strict=True))
    ]


def _masks(
    image_HW3: np.ndarray, boxes: Sequence[Box], segmenter: VideoSegmenter
) -> list[tuple[np.ndarray, float | None]]:
    """Mask of each box, as an object of a video of one frame, and its predicted IoU."""
    if not boxes:
        return []
    session = segmenter.open(MemoryVideo(image_HW3[None], fps=1))
    found = []
    for place, box in enumerate(boxes):
        answer = session.add(place, Prompt(0, box=box))
        session.remove(place)
        found.append((answer.mask_HW, None if math.isnan(answer.predicted_iou) else answer.predicted_iou))
    session.close()
    return found


def describe_image(
    image_path: str,
    size: tuple[int, int],
    things: Sequence[Thing],
    model: Mapping[str, Any],
    caption: str | None = None,
) -> dict[str, Any]:
    """The JSON above; `size` is (height, width), `model` says what made it (`made_by`)."""
    return {
        "image_path": image_path,
        "img_width": size[1],
        "img_height": size[0],
        "box_format": "xyxy",
        "model": dict(model),
        **({} if caption is None else {"caption": caption}),
        "annotations": [_annotation(thing) for thing in things],
    }


def made_by(detector: ModelInfo, segmenter: ModelInfo | None, **settings: float | str | None) -> dict[str, Any]:
    """The models and settings behind an answer; no segmenter where there was nothing to cut out."""
    return {"detector": asdict(detector), "segmenter": segmenter and asdict(segmenter), **settings}


def write_image(
    folder: Path, image_HW3: np.ndarray, described: Mapping[str, Any], things: Sequence[Thing]
) -> list[Path]:
    """Write annotations.json, boxes.png and overlay.png into `folder`; returns the paths.

    Raises InputError where it cannot be written.
    """
    paths = [folder / name for name in ("annotations.json", "boxes.png", "overlay.png")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(json.dumps(described, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; free space or choose another folder") from error
    labels = [thing.name if thing.score is None else f"{thing.name} {thing.score:.2f}" for thing in things]
    height, width = image_HW3.shape[:2]
    masks_NHW = np.array([thing.mask_HW for thing in things], bool).reshape(-1, height, width)
    save_image(paths[1], _with_boxes(image_HW3, things, labels))
    save_image(paths[2], overlay(image_HW3, masks_NHW, labels))
    return paths


def read_image(path: Path) -> dict[str, Any]:
    """An annotations.json, ours or Grounded SAM 2's, with every `score` a number or None.

    Raises InputError for anything else.
    """
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        for annotation in described["annotations"]:
            score = annotation["score"]
            annotation["score"] = score[0] if isinstance(score, list) else score
            rle.decode(annotation["segmentation"])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path} is no JSON of an image's annotations: {error}; write it again") from error
    return dict(described)


def _annotation(thing: Thing) -> dict[str, Any]:
    drawn = {} if thing.drawn_HW is None else {"drawn_segmentation": rle.encode(thing.drawn_HW)}
    return {
        "class_name": thing.name,
        "bbox": [float(value) for value in thing.box],
        "segmentation": rle.encode(thing.mask_HW),
        "score": thing.score,
        "mask_score": thing.mask_score,
        "phrase": thing.phrase,
        "noun_scores": dict(thing.noun_scores),
        "token_scores": [list(pair) for pair in thing.token_scores] or None,
        **drawn,
    }


def _with_boxes(image_HW3: np.ndarray, things: Sequence[Thing], labels: Sequence[str]) -> np.ndarray:
    """The image with the outline of each box and its label."""
    height, width = image_HW3.shape[:2]
    frames_NHW = np.zeros((len(things), height, width), bool)
    thick = max(1, round(min(height, width) / 240))
    for place, thing in enumerate(things):
        left, top, right, bottom = (round(value) for value in thing.box)
        outlined = np.zeros((height, width), np.uint8)
        cv2.rectangle(outlined, (left, top), (max(left, right - 1), max(top, bottom - 1)), 1, thick)
        frames_NHW[place] = outlined.astype(bool)
    labelled = overlay(image_HW3, frames_NHW, labels)
    for place, frame_HW in enumerate(frames_NHW):
        labelled[frame_HW] = colour_of(place)
    return labelled
